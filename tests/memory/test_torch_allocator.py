"""Slots of paged requests, held to what a page is: consecutive slots for consecutive positions, and one owner."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sglang_glm52.memory.torch_allocator import new_slots

PAGE = 4


def extend(lens: list[tuple[int, int]], spare_pages: int) -> tuple[list[list[int]], list[int], int]:
    """Grow requests from `prefix` to `seq` positions each: (each request's slots so far, free pages, pages taken)."""
    pages = iter(torch.randperm(200).tolist())
    tables = [
        [page * PAGE + i for page in [next(pages) for _ in range(-(-prefix // PAGE))] for i in range(PAGE)]
        for prefix, _ in lens
    ]
    tables = [table[:prefix] for table, (prefix, _) in zip(tables, lens, strict=True)]
    needed = sum(-(-seq // PAGE) - -(-prefix // PAGE) for prefix, seq in lens)
    free = [next(pages) for _ in range(max(0, needed + spare_pages))]
    last = torch.tensor([table[-1] if table else -1 for table in tables])
    prefixes, seqs = torch.tensor(lens).unbind(1)
    found = new_slots(prefixes, seqs, last, torch.tensor(free, dtype=torch.int64), PAGE)
    if found is None:
        return [], free, needed
    slots, taken = found
    assert taken == needed
    grown = slots.split((seqs - prefixes).tolist())
    return [table + new.tolist() for table, new in zip(tables, grown, strict=True)], free[:taken], needed


lengths = st.integers(0, 11).flatmap(lambda prefix: st.tuples(st.just(prefix), st.integers(prefix, prefix + 13)))


@settings(deadline=None)
@given(lens=st.lists(lengths, min_size=1, max_size=5), spare=st.integers(0, 3))
def test_a_page_holds_consecutive_positions_of_one_request(lens, spare):
    tables, taken, _ = extend(lens, spare)
    owners: dict[int, tuple[int, int]] = {}
    for request, (table, (_, seq)) in enumerate(zip(tables, lens, strict=True)):
        assert len(table) == seq
        for position, slot in enumerate(table):
            assert slot % PAGE == position % PAGE
            assert owners.setdefault(slot // PAGE, (request, position // PAGE)) == (request, position // PAGE)
    assert set(taken) <= owners.keys() and len(set(taken)) == len(taken)


def test_too_few_pages_are_none_and_not_some():
    assert extend([(3, 9), (0, 5)], spare_pages=-1)[0] == []


def test_one_more_position_fills_the_page_before_it_takes_another():
    [table], taken, needed = extend([(3, 4)], spare_pages=1)
    assert needed == 0 and taken == [] and table[3] == table[2] + 1

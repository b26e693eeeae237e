"""Reads and writes of the request pool's table, against loops."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sglang_glm52.speculative.launched import assign_draft_cache_locs_contiguous
from sglang_glm52.speculative.slots import read_slots, write_slots

POOL_ROWS, WIDTH = 6, 40
triple = st.tuples(st.integers(0, POOL_ROWS - 1), st.integers(0, 20), st.integers(0, 9))  # pool row, start, count
requests = st.lists(triple, max_size=5, unique_by=lambda r: r[0])


def columns(rows: list[tuple[int, int, int]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    pool_rows, starts, counts = zip(*rows, strict=True) if rows else ((), (), ())
    return torch.tensor(pool_rows, dtype=torch.int64), torch.tensor(starts), torch.tensor(counts)


@settings(deadline=None)
@given(requests)
def test_each_request_gets_its_slots_in_turn(rows):
    pool_rows, starts, counts = columns(rows)
    table = torch.arange(POOL_ROWS * WIDTH, dtype=torch.int32).view(POOL_ROWS, WIDTH)
    want, slots = table.clone(), 1000 + torch.arange(int(counts.sum()))
    taken = 0
    for row, start, count in rows:
        for position in range(start, start + count):
            want[row, position] = 1000 + taken
            taken += 1
    write_slots(table, pool_rows, starts.int(), (starts + counts).int(), slots)
    assert torch.equal(table, want)


@settings(deadline=None)
@given(requests, st.integers(1, 6))
def test_slots_are_read_from_the_start_on(rows, count):
    pool_rows, starts, _ = columns(rows)
    table = torch.randint(1000, (POOL_ROWS, WIDTH), dtype=torch.int32)
    want = [int(table[row, start + i]) for row, start, _ in rows for i in range(count)]
    got = read_slots(table, pool_rows, starts, count)
    assert got.dtype == torch.int64 and got.tolist() == want


def test_a_draft_round_is_called_as_a_kernel():
    table = torch.arange(POOL_ROWS * WIDTH, dtype=torch.int32).view(POOL_ROWS, WIDTH)
    out = torch.empty(6, dtype=torch.int64)
    pool_rows, starts = torch.tensor([4, 1]), torch.tensor([7, 0])
    assign_draft_cache_locs_contiguous[(2,)](pool_rows, table, starts, out, WIDTH, 1, 3)
    assert out.tolist() == [4 * WIDTH + 7, 4 * WIDTH + 8, 4 * WIDTH + 9, WIDTH, WIDTH + 1, WIDTH + 2]

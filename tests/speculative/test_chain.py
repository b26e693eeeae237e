"""Layout and verdict of chains of drafts, against loops over tokens."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sglang_glm52.errors import ConfigError
from sglang_glm52.speculative.chain import accept, lay_out, require_chain
from sglang_glm52.speculative.launched import assign_draft_cache_locs_contiguous, fill_bonus_tokens

VOCAB = 3  # few, so that drafts are often right


def token_rows(width: int) -> st.SearchStrategy:
    return st.lists(st.lists(st.integers(0, VOCAB - 1), min_size=width, max_size=width), min_size=1, max_size=4)


@settings(deadline=None)
@given(st.integers(1, 5).flatmap(token_rows), st.data())
def test_a_chain_is_bonus_and_drafts_in_order(drafts, data):
    num_requests, num_drafts = len(drafts), len(drafts[0])
    bonus = data.draw(st.lists(st.integers(0, VOCAB - 1), min_size=num_requests, max_size=num_requests))
    lengths = data.draw(st.lists(st.integers(1, 99), min_size=num_requests, max_size=num_requests))
    tokens, positions, rows, children, siblings = lay_out(*map(torch.tensor, (bonus, drafts, lengths)))
    width = num_drafts + 1
    assert tokens.tolist() == [token for b, chain in zip(bonus, drafts, strict=True) for token in (b, *chain)]
    assert positions.tolist() == [length + i for length in lengths for i in range(width)]
    for request in range(num_requests):  # walk the tree as the host's grammar masks do
        walked, node = [], 0
        while node != -1:
            walked.append(int(tokens[rows[request, node]]))
            assert siblings[request, node] == -1
            node = int(children[request, node])
        assert walked == [bonus[request], *drafts[request]]


def accept_by_loop(chain: list[int], target: list[int]) -> list[int]:
    """Tokens that one request gains."""
    gained = []
    for j, token in enumerate(target):
        gained.append(token)
        if j + 1 == len(chain) or chain[j + 1] != token:
            return gained
    return gained


@settings(deadline=None)
@given(st.integers(2, 6).flatmap(lambda width: st.tuples(token_rows(width), st.just(width))), st.data())
def test_drafts_are_kept_up_to_the_first_wrong_one(case, data):
    candidates, width = case
    row = st.lists(st.integers(0, VOCAB - 1), min_size=width, max_size=width)
    target = data.draw(st.lists(row, min_size=len(candidates), max_size=len(candidates)))
    tokens, gains, places = accept(torch.tensor(candidates), torch.tensor(target))
    assert {tokens.dtype, gains.dtype, places.dtype} == {torch.int32}
    want = [accept_by_loop(chain, row) for chain, row in zip(candidates, target, strict=True)]
    assert gains.tolist() == [len(gained) for gained in want]
    for request, gained in enumerate(want):
        kept = places[request, : len(gained)]
        assert tokens[kept.long()].tolist() == gained
        assert places[request, len(gained) :].tolist() == [-1] * (width - len(gained))
        assert tokens.view(-1, width)[request].tolist() == gained + [0] * (width - len(gained))
    bonus = torch.empty(len(want), dtype=torch.int32)
    fill_bonus_tokens[(len(want),)](tokens[places.long()], gains, bonus, width)
    assert bonus.tolist() == [gained[-1] for gained in want]


def test_trees_are_refused():
    require_chain(1)
    with pytest.raises(ConfigError, match="--speculative-eagle-topk 2.*use --speculative-eagle-topk 1"):
        require_chain(2)
    nothing = torch.empty(0, dtype=torch.int64)
    with pytest.raises(ConfigError, match="--speculative-eagle-topk 4"):
        assign_draft_cache_locs_contiguous[(0,)](nothing, torch.empty(1, 1), nothing, nothing, 1, 4, 3)

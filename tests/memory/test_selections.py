"""The check of a selection, on torch's own and on spoilt ones, and the host's torch top-k on the hard scores."""

from __future__ import annotations

import pytest
import torch
from memory.selections import SCORES, threshold_bin_sizes, wrong_rows
from sglang.srt.layers.attention.dsa.dsa_topk_backend import DSATopKBackend

TOPK = 64
LENGTHS = torch.tensor([1, 63, 64, 65, 1000, 0, 500])


def make_scores(name: str) -> torch.Tensor:
    return SCORES[name]((len(LENGTHS), 1000), torch.Generator().manual_seed(2))


STARTS = torch.tensor([0, 5, 900, 3, 0, 999, 500], dtype=torch.int32)


@pytest.mark.parametrize("starts", [None, STARTS], ids=["from the left", "each row elsewhere"])
@pytest.mark.parametrize("name", SCORES)
def test_the_hosts_torch_top_k_is_right(name, starts):
    scores = make_scores(name)
    found = DSATopKBackend.TORCH.topk_func(scores, LENGTHS.int(), TOPK, row_starts=starts)
    problems = wrong_rows(found, scores, LENGTHS, TOPK, starts)
    if name == "half minus infinity":  # which that function takes for the end of a row
        problems = {row: problem for row, problem in problems.items() if LENGTHS[row] >= 2 * TOPK}
    assert problems == {}


SPOILT = {
    "a score that is not among the best": (
        lambda found: found.__setitem__((4, 0), found[4, TOPK]),
        "1 of 64 are below the 64th best",
    ),
    "a position twice": (lambda found: found.__setitem__((4, 0), found[4, 1]), "1 positions twice"),
    "a position beyond the row": (lambda found: found.__setitem__((1, 0), 63), "to 63 of 63"),
    "too few": (lambda found: found.__setitem__((2, 5), -1), "positions -1 to"),
    "too many": (lambda found: found.__setitem__((5, 9), 0), "1 entries beyond the 0"),
}


@pytest.mark.parametrize("spoil", SPOILT)
def test_a_spoilt_selection_is_found(spoil):
    scores = make_scores("normal")
    order = [row[:length].sort(descending=True).indices for row, length in zip(scores, LENGTHS.tolist(), strict=True)]
    found = torch.full((len(LENGTHS), 1000), -1)
    for row, best in enumerate(order):
        found[row, : len(best)] = best
    change, message = SPOILT[spoil]
    change(found)
    problems = wrong_rows(found[:, :TOPK].masked_fill(found[:, :TOPK] >= 1000, -1), scores, LENGTHS, TOPK)
    assert len(problems) == 1 and message in next(iter(problems.values()))


def test_bins_by_hand():
    """In half precision 1.0, 1.125 and 1.24 share their upper byte, 1.25 and 0.99 do not."""
    scores = torch.tensor(
        [[2.0, 1.0, 1.125, 1.24, 0.99], [1.25, 1.0, 0.0, -1.0, -5.0], [-1.0, -1.2, -1.25, -3.0, -8.0]]
    )
    assert threshold_bin_sizes(scores, torch.tensor([5, 5, 5]), 2).tolist() == [3, 1, 2]
    assert threshold_bin_sizes(scores, torch.tensor([2, 5, 5]), 2).tolist() == [0, 1, 2]


def test_an_equal_score_does_not_stand_for_a_better_one():
    scores = torch.tensor([[2.0, 1.0, 1.0, 1.0]])
    assert wrong_rows(torch.tensor([[0, 3]]), scores, torch.tensor([4]), 2) == {}
    [problem] = wrong_rows(torch.tensor([[1, 2]]), scores, torch.tensor([4]), 2).values()
    assert problem.startswith("0 of 2 are below the 2th best, 1.0")

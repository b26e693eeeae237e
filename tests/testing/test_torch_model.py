"""The plain torch model: the target against transformers, the MTP layer by what must hold of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from reference.client import reference_logprobs

from sglang_glm52.testing.torch_model import TorchGlm52
from sglang_glm52.tiny import build

TOPK = 64  # index_topk of the cpu preset
BOUND = 1e-4  # nats; measured: below 6e-5
SAME = 1e-5  # of logits, for the same sums in another order


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> TorchGlm52:
    return TorchGlm52.from_checkpoint(build(tmp_path_factory.mktemp("torch") / "model"))


def random_ids(length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(256, (length,), generator=torch.Generator().manual_seed(seed))


def assert_same(label: str, got: torch.Tensor, want: torch.Tensor, bound: float = SAME) -> None:
    assert got.shape == want.shape, f"{label}: {got.shape} vs {want.shape}"
    worst = float((got - want).abs().max())
    assert worst < bound, f"{label}: {worst:.1e}"


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"norm_topk_prob": False, "n_shared_experts": 2, "routed_scaling_factor": 1.5},
        {"indexer_types": ["full", "shared", "shared", "full", "full", "shared", "full", "shared"]},
    ],
    ids=["published", "experts", "irregular"],
)
def test_the_target_equals_transformers(overrides: dict, tmp_path: Path) -> None:
    checkpoint = build(tmp_path / "model", overrides=overrides)
    model = TorchGlm52.from_checkpoint(checkpoint)
    prompts = [random_ids(length, seed=length).tolist() for length in (1, 5, TOPK - 1, TOPK, TOPK + 1, 3 * TOPK + 7)]
    for ids, want in zip(prompts, reference_logprobs(checkpoint, prompts, tmp_path), strict=True):
        got = model.target(torch.tensor(ids))[0].log_softmax(dim=1)
        assert_same(f"{len(ids)} tokens", got, torch.from_numpy(want), BOUND)


def test_halves_are_rotated_as_neighbours_are(model: TorchGlm52) -> None:
    """transformers always rotates neighbours; which two numbers make a pair is a matter of order."""
    x, positions = torch.randn(9, 2, 64), torch.arange(9)
    halves = model._rotate(x, positions, False)
    neighbours = model._rotate(torch.stack(x.chunk(2, dim=-1), dim=-1).flatten(-2), positions, True)
    assert_same("rotated", halves, torch.cat([neighbours[..., 0::2], neighbours[..., 1::2]], dim=-1))


def test_quantised_checkpoints_are_near_the_plain_one(model: TorchGlm52, tmp_path: Path) -> None:
    for fmt, least, most in (("fp8", 0.0, 0.05), ("w4afp8", 0.05, 0.15)):
        stored = TorchGlm52.from_checkpoint(build(tmp_path / fmt, fmt=fmt)).weights
        assert stored.keys() == model.weights.keys()
        name = "model.layers.3.mlp.experts.1.down_proj.weight"
        error = float((stored[name] - model.weights[name]).norm() / model.weights[name].norm())
        assert least < error < most, f"{fmt}: {error:.3f}"


@pytest.mark.parametrize("length", [1, TOPK, TOPK + 1, 4 * TOPK])
def test_a_rounds_first_step_is_the_last_row_of_the_mtp_layer(model: TorchGlm52, length: int) -> None:
    ids = random_ids(length)
    logits, hidden = model.target(ids)
    next_ids = torch.cat([ids[1:], logits[-1:].argmax(dim=1)])
    rows, own, selection = model.mtp(next_ids, hidden)
    assert rows.shape == logits.shape and own.shape == hidden.shape and selection.shape == (length, length)
    for shares_selection in (True, False):
        assert_same(f"{shares_selection=}", model.draft_round(ids, 1, shares_selection), rows[-1:])


def test_rows_do_not_depend_on_where_they_begin_or_on_later_ones(model: TorchGlm52) -> None:
    ids, cut = random_ids(5 * TOPK), 3 * TOPK + 5
    logits, hidden = model.target(ids)
    assert_same("target", model.target(ids[:cut])[0], logits[:cut], BOUND)
    next_ids = logits.argmax(dim=1)
    rows, own, selection = model.mtp(next_ids, hidden)
    tail = model.mtp(next_ids, hidden, first_row=cut)
    for label, part, whole in zip(("logits", "hidden states"), tail, (rows, own), strict=False):
        assert_same(label, part, whole[cut:], BOUND)
    assert torch.equal(tail[2], selection[cut:])
    assert_same("earlier rows", model.mtp(next_ids[:cut], hidden[:cut])[0], rows[:cut], BOUND)
    assert_same("a selection handed back", model.mtp(next_ids, hidden, 0, selection)[0], rows)


def test_a_selection_is_causal_and_sparse(model: TorchGlm52) -> None:
    ids = random_ids(4 * TOPK)
    selection = model.mtp(ids, model.target(ids)[1])[2]
    assert selection.sum(dim=1).tolist() == [min(row + 1, TOPK) for row in range(len(ids))]
    assert not selection.triu(1).any()


def test_of_equal_scores_the_earlier_position_is_chosen(model: TorchGlm52) -> None:
    scores = torch.zeros(1, 3 * TOPK)
    scores[0, 100], scores[0, 2 * TOPK + 1] = 1.0, 9.0  # the second lies beyond the row
    chosen = model._best(scores, torch.tensor([2 * TOPK]))
    assert chosen[0].nonzero().flatten().tolist() == [*range(TOPK - 1), 100]


def test_later_steps_differ_by_whether_they_share_a_selection(model: TorchGlm52) -> None:
    shared, own = (model.draft_round(random_ids(4 * TOPK), 4, shares) for shares in (True, False))
    assert_same("first step", shared[0], own[0])
    assert float((shared[1] - own[1]).abs().max()) > 100 * BOUND


def test_a_later_step_with_its_own_selection_is_the_mtp_layer_on_one_row_more(model: TorchGlm52) -> None:
    """Step by step, by hand: the new row has the draft token, and the MTP layer's own hidden state."""
    ids = random_ids(3 * TOPK)
    logits, hidden = model.target(ids)
    next_ids = torch.cat([ids[1:], logits[-1:].argmax(dim=1)])
    steps = model.draft_round(ids, 3, shares_selection=False)
    for step in range(3):
        rows, own, _ = model.mtp(next_ids, hidden)
        assert_same(f"step {step}", steps[step], rows[-1], BOUND)
        next_ids = torch.cat([next_ids, rows[-1].argmax().view(1)])
        hidden = torch.cat([hidden, own[-1:]])


def test_a_shared_selection_leaves_out_the_rounds_own_rows(model: TorchGlm52) -> None:
    """So a later step is the MTP layer on the committed rows and its own, with row n - 1's selection."""
    ids = random_ids(3 * TOPK)
    logits, hidden = model.target(ids)
    next_ids = torch.cat([ids[1:], logits[-1:].argmax(dim=1)])
    steps = model.draft_round(ids, 2, shares_selection=True)
    rows, own, selection = model.mtp(next_ids, hidden)
    mask = torch.cat([selection[-1:], torch.zeros(1, 1, dtype=torch.bool)], dim=1)
    next_ids = torch.cat([next_ids, rows[-1].argmax().view(1)])
    got = model.mtp(next_ids, torch.cat([hidden, own[-1:]]), len(ids), mask)[0]
    assert_same("second step", got[0], steps[1])

"""The passes of speculation in the torch backend: each row sees what it sees when decoded alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from attention.test_torch_sparse import DIM, HEADS, ROPE, Pool
from sglang.srt.model_executor.forward_batch_info import ForwardMode

from sglang_glm52.attention.draft_steps import DraftSteps
from sglang_glm52.attention.torch_sparse import TorchSparseAttnBackend

TOPK, NUM_ROWS, LENGTHS = 5, 4, (2, 9, 4)  # requests below, above and across the selection's size
LAYER = SimpleNamespace(layer_id=0, tp_q_head_num=HEADS, head_dim=DIM + ROPE, v_head_dim=DIM, scaling=0.3)


@pytest.fixture
def runner() -> SimpleNamespace:
    torch.manual_seed(0)
    table = torch.randperm(64, dtype=torch.int32)[: 4 * 16].view(4, 16)
    return SimpleNamespace(req_to_token_pool=SimpleNamespace(req_to_token=table), token_to_kv_pool=Pool(64))


def batch(mode: ForwardMode, lengths: tuple[int, ...], **more: object) -> SimpleNamespace:
    pool_rows = torch.tensor([3, 0, 2])
    return SimpleNamespace(forward_mode=mode, seq_lens_cpu=torch.tensor(lengths), req_pool_indices=pool_rows, **more)


def attend(backend: TorchSparseAttnBackend, queries: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    selection = backend.select(0, queries["index"], queries["weights"], TOPK)
    out = backend.forward_extend(
        queries["q"], None, None, LAYER, None, False, q_rope=queries["rope"], k_rope=None, topk_indices=selection
    )
    return selection, out


def make_queries(rows: int) -> dict[str, torch.Tensor]:
    shapes = {"index": (HEADS, DIM), "weights": (HEADS,), "q": (HEADS, DIM), "rope": (HEADS, ROPE)}
    return {name: torch.rand(rows, *shape) for name, shape in shapes.items()}


def test_verify_rows_equal_decoding_one_by_one(runner):
    verify, decode = TorchSparseAttnBackend(runner), TorchSparseAttnBackend(runner)
    spec_info = SimpleNamespace(draft_token_num=NUM_ROWS)
    verify.init_forward_metadata(batch(ForwardMode.TARGET_VERIFY, LENGTHS, spec_info=spec_info))
    queries = make_queries(NUM_ROWS * len(LENGTHS))
    selection, out = attend(verify, queries)
    for row in range(NUM_ROWS):  # the host counts the token being decoded
        decode.init_forward_metadata(batch(ForwardMode.DECODE, tuple(length + row + 1 for length in LENGTHS)))
        want_selection, want = attend(decode, {name: value[row::NUM_ROWS] for name, value in queries.items()})
        assert torch.equal(selection[row::NUM_ROWS].sort().values, want_selection.sort().values)
        torch.testing.assert_close(out[row::NUM_ROWS], want)


def test_draft_extend_plans_what_verify_planned(runner):
    verify, extend = TorchSparseAttnBackend(runner), TorchSparseAttnBackend(runner)
    spec_info = SimpleNamespace(draft_token_num=NUM_ROWS)
    verify.init_forward_metadata(batch(ForwardMode.TARGET_VERIFY, LENGTHS, spec_info=spec_info))
    after = tuple(length + NUM_ROWS for length in LENGTHS)  # the host counts the new tokens in this pass
    counts = [NUM_ROWS] * len(LENGTHS)
    extend.init_forward_metadata(batch(ForwardMode.DRAFT_EXTEND_V2, after, extend_seq_lens_cpu=counts))
    for ours, theirs in zip(extend.requests, verify.requests, strict=True):
        assert (ours.first, ours.last, ours.slots.tolist()) == (theirs.first, theirs.last, theirs.slots.tolist())


@pytest.mark.parametrize("shares_selection", [False, True])
def test_a_draft_step_sees_its_drafts_unless_the_selection_is_shared(runner, shares_selection):
    steps = DraftSteps(runner, 4, shares_selection=shares_selection)
    steps.init_forward_metadata(batch(ForwardMode.DECODE, LENGTHS))
    assert [backend.speculative_step_id for backend in steps.attn_backends] == [0, 1, 2]
    for step, backend in enumerate(steps.attn_backends):
        visible = 0 if shares_selection else step + 1
        assert [request.limits().tolist() for request in backend.requests] == [[n + visible] for n in LENGTHS]
        assert [(request.first, request.last) for request in backend.requests] == [(0, 1), (1, 2), (2, 3)]
        for request, pool_row in zip(backend.requests, (3, 0, 2), strict=True):
            table = runner.req_to_token_pool.req_to_token[pool_row]
            assert request.slots.tolist() == table[: request.length].tolist()


def test_a_round_of_one_step_needs_no_attention(runner):
    assert DraftSteps(runner, 1, shares_selection=True).attn_backends == []

"""Selection and attention in torch, against loops that follow the definitions."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sglang_glm52.attention import torch_sparse
from sglang_glm52.attention.torch_sparse import RequestRows, TorchSparseAttnBackend, attend, index_scores, top_positions

HEADS, DIM, ROPE, TOPK = 3, 8, 4, 5


def best_by_sorting(scores: list[float], limit: int, topk: int) -> list[int]:
    best = sorted(range(limit), key=lambda position: (-scores[position], position))[:topk]
    return best + [-1] * (min(topk, len(scores)) - len(best))


@settings(deadline=None)
@given(
    rows=st.lists(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=9, max_size=9), min_size=1, max_size=4),
    limit=st.integers(1, 9),
    topk=st.integers(1, 12),
)
def test_the_best_of_the_causal_prefix_ties_to_the_earlier(rows, limit, topk):
    got = top_positions(torch.tensor(rows), torch.full((len(rows),), limit), topk)
    assert got.tolist() == [best_by_sorting(row, limit, topk) for row in rows]


def test_scores_sum_weighted_positive_dot_products():
    torch.manual_seed(0)
    q, keys, weights = torch.randn(2, HEADS, DIM), torch.randn(6, DIM), torch.randn(2, HEADS)
    want = [[sum(weights[r, h] * max(q[r, h] @ keys[s], 0) for h in range(HEADS)) for s in range(6)] for r in range(2)]
    torch.testing.assert_close(index_scores(q, keys, weights), torch.tensor(want))


def test_attention_ignores_placeholders():
    torch.manual_seed(0)
    query, latents = torch.randn(1, HEADS, DIM), torch.randn(1, 4, DIM)
    valid = torch.tensor([[True, False, True, True]])
    got = attend(query, latents, valid, 0.5, v_dim=6)
    kept = latents[0, [0, 2, 3]]
    want = ((query[0] @ kept.T) * 0.5).softmax(-1) @ kept[:, :6]
    torch.testing.assert_close(got[0], want)
    changed = latents.clone()
    changed[0, 1] = 1e6
    assert torch.equal(attend(query, changed, valid, 0.5, v_dim=6), got)


class Pool:
    """What the backend asks of a KV pool: rows by slot."""

    def __init__(self, slots: int) -> None:
        self.keys, self.latents = torch.randn(slots, DIM), torch.randn(slots, 1, DIM + ROPE)

    def get_index_k(self, layer_id: int) -> torch.Tensor:
        return self.keys

    def get_key_buffer(self, layer_id: int) -> torch.Tensor:
        return self.latents


@pytest.fixture
def backend() -> TorchSparseAttnBackend:
    """Two requests in one batch: rows 0-2 end a context of 9 tokens, row 3 one of 4; slots lie scattered."""
    torch.manual_seed(1)
    runner = SimpleNamespace(req_to_token_pool=None, token_to_kv_pool=Pool(32))
    backend = TorchSparseAttnBackend(runner)
    slots = torch.randperm(32)
    backend.requests = [RequestRows(0, 3, slots[:9]), RequestRows(3, 4, slots[9:13])]
    return backend


def run(backend: TorchSparseAttnBackend) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(2)
    selection = backend.select(0, torch.randn(4, HEADS, DIM), torch.rand(4, HEADS), TOPK)
    layer = SimpleNamespace(layer_id=0, tp_q_head_num=HEADS, head_dim=DIM + ROPE, v_head_dim=DIM, scaling=0.3)
    q, q_rope = torch.randn(4, HEADS, DIM), torch.randn(4, HEADS, ROPE)
    out = backend.forward_extend(
        q, None, None, layer, None, save_kv_cache=False, q_rope=q_rope, k_rope=None, topk_indices=selection
    )
    return selection, out


def test_rows_see_their_own_request_up_to_their_position(backend):
    selection, out = run(backend)
    assert selection.shape == (4, TOPK) and out.shape == (4, HEADS * DIM) and out.isfinite().all()
    for row, limit in enumerate((7, 8, 9, 4)):
        chosen = [position for position in selection[row].tolist() if position >= 0]
        assert len(set(chosen)) == min(limit, TOPK) and max(chosen) < limit


def test_a_bounded_temporary_changes_nothing(backend, monkeypatch):
    whole = run(backend)
    monkeypatch.setattr(torch_sparse, "MAX_TEMPORARY_ELEMENTS", 1)
    by_row = run(backend)
    assert torch.equal(whole[0], by_row[0])
    torch.testing.assert_close(whole[1], by_row[1])

"""Selection and attention in torch, against loops that follow the definitions."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sglang_glm52.attention import torch_sparse
from sglang_glm52.attention.torch_sparse import (
    RequestRows,
    TorchSparseAttnBackend,
    attend,
    attend_prefix,
    index_scores,
    top_positions,
)

HEADS, DIM, ROPE, TOPK, ROWS = 3, 8, 4, 5, 7


def best_by_sorting(scores: list[float], limit: int, topk: int) -> list[int]:
    return sorted(range(limit), key=lambda position: (-scores[position], position))[:topk]


@settings(deadline=None)
@given(
    rows=st.lists(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=9, max_size=9), min_size=1, max_size=4),
    limit=st.integers(1, 9),
    data=st.data(),
)
def test_the_best_of_the_causal_prefix_ties_to_the_earlier(rows, limit, data):
    topk = data.draw(st.integers(1, limit))
    got = top_positions(torch.tensor(rows), torch.full((len(rows),), limit), topk)
    assert got.tolist() == [best_by_sorting(row, limit, topk) for row in rows]


def test_scores_sum_weighted_positive_dot_products():
    torch.manual_seed(0)
    q, keys, weights = torch.randn(2, HEADS, DIM), torch.randn(6, DIM), torch.randn(2, HEADS)
    want = [[sum(weights[r, h] * max(q[r, h] @ keys[s], 0) for h in range(HEADS)) for s in range(6)] for r in range(2)]
    torch.testing.assert_close(index_scores(q, keys, weights), torch.tensor(want))


def attend_by_definition(query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """One row: query [heads, dim], keys [n, dim]."""
    return ((query @ keys.T) * 0.5).softmax(-1) @ keys[:, :6]


def test_each_row_attends_to_its_own_keys():
    torch.manual_seed(0)
    query, latents = torch.randn(2, HEADS, DIM), torch.randn(2, 4, DIM)
    want = torch.stack([attend_by_definition(q, keys) for q, keys in zip(query, latents, strict=True)])
    torch.testing.assert_close(attend(query, latents, 0.5, v_dim=6), want)


def test_a_prefix_ends_at_each_rows_limit():
    torch.manual_seed(0)
    query, latents, limits = torch.randn(3, HEADS, DIM), torch.randn(5, DIM), torch.tensor([1, 5, 3])
    want = torch.stack([attend_by_definition(q, latents[:n]) for q, n in zip(query, limits, strict=True)])
    torch.testing.assert_close(attend_prefix(query, latents, limits, 0.5, v_dim=6), want)


@given(length=st.integers(1, 12), data=st.data(), topk=st.integers(1, 14))
def test_splitting_keeps_every_row_and_its_limit(length, data, topk):
    request = RequestRows(3, 3 + data.draw(st.integers(1, length)), torch.arange(length) * 7)
    dense, sparse = request.split(topk)
    assert (dense.first, dense.last, sparse.last) == (3, sparse.first, request.last)
    limits = dense.limits().tolist() + sparse.limits().tolist()
    assert limits == request.limits().tolist()
    assert all(limit <= topk for limit in dense.limits()) and all(limit > topk for limit in sparse.limits())
    assert dense.slots.tolist() == request.slots.tolist()[: dense.length]
    assert (dense.first < dense.last or not dense.length) and (sparse.first < sparse.last or not sparse.length)


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
    """Rows 0-5 end a context of 9 tokens, 4 to 9 positions each, row 6 one of 4; slots lie scattered."""
    torch.manual_seed(1)
    runner = SimpleNamespace(req_to_token_pool=None, token_to_kv_pool=Pool(32))
    backend = TorchSparseAttnBackend(runner)
    slots = torch.randperm(32)
    backend.requests = [RequestRows(0, 6, slots[:9]), RequestRows(6, 7, slots[9:13])]
    return backend


def run(backend: TorchSparseAttnBackend) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(2)
    selection = backend.select(0, torch.randn(ROWS, HEADS, DIM), torch.rand(ROWS, HEADS), TOPK)
    layer = SimpleNamespace(layer_id=0, tp_q_head_num=HEADS, head_dim=DIM + ROPE, v_head_dim=DIM, scaling=0.3)
    q, q_rope = torch.randn(ROWS, HEADS, DIM), torch.randn(ROWS, HEADS, ROPE)
    out = backend.forward_extend(
        q, None, None, layer, None, save_kv_cache=False, q_rope=q_rope, k_rope=None, topk_indices=selection
    )
    return selection, out


def test_rows_see_their_own_request_up_to_their_position(backend):
    selection, out = run(backend)
    assert selection.shape == (ROWS, TOPK) and out.shape == (ROWS, HEADS * DIM) and out.isfinite().all()
    for row, limit in enumerate((4, 5, 6, 7, 8, 9, 4)):
        chosen = [position for position in selection[row].tolist() if position >= 0]
        assert len(set(chosen)) == min(limit, TOPK) and max(chosen) < limit


def test_attention_is_over_what_was_selected(backend):
    selection, out = run(backend)
    torch.manual_seed(2)
    torch.randn(ROWS, HEADS, DIM), torch.rand(ROWS, HEADS)  # what `run` drew for the indexer
    query = torch.cat([torch.randn(ROWS, HEADS, DIM), torch.randn(ROWS, HEADS, ROPE)], dim=-1)
    for request in backend.requests:
        for row in range(request.first, request.last):
            keys = backend.token_to_kv_pool.latents[request.slots[selection[row][selection[row] >= 0]]].squeeze(1)
            want = ((query[row] @ keys.T) * 0.3).softmax(-1) @ keys[:, :DIM]
            torch.testing.assert_close(out[row].view(HEADS, DIM), want)


def test_a_bounded_temporary_changes_nothing(backend, monkeypatch):
    whole = run(backend)
    monkeypatch.setattr(torch_sparse, "MAX_TEMPORARY_ELEMENTS", 1)
    by_row = run(backend)
    assert torch.equal(whole[0], by_row[0])
    torch.testing.assert_close(whole[1], by_row[1])

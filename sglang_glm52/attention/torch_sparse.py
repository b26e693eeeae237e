"""Sparse latent attention in plain torch: the CPU engine's attention backend for GLM-5.2.

Works on one request at a time, and on so many query rows at once that the largest temporary stays under a fixed size,
so memory does not grow with the context. Prefill, chunked prefill, mixed batches, decode and the passes of speculation
are one code path: a request is `num_rows` query rows at the end of a context of `length` tokens. Rows that see no more
than `topk` positions select them all and read their request's keys together; each of the others gathers the keys it
selected.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from sglang.srt.layers.attention.base_attn_backend import AttentionBackend

if TYPE_CHECKING:
    from sglang.srt.layers.radix_attention import RadixAttention
    from sglang.srt.model_executor.forward_batch_info import ForwardBatch
    from sglang.srt.model_executor.model_runner import ModelRunner

MAX_TEMPORARY_ELEMENTS = 1 << 24  # 64 MiB of float32


@dataclass(frozen=True, slots=True)
class RequestRows:
    """Query rows [first, last) of the batch, at positions [length - (last - first), length) of one request."""

    first: int
    last: int
    slots: torch.Tensor  # [length] int64: where each position's key lies in the pool

    @property
    def length(self) -> int:
        return self.slots.shape[0]

    def limits(self) -> torch.Tensor:
        """[num_rows] int64: how many positions, from 0, each row may attend to."""
        return torch.arange(self.length - (self.last - self.first), self.length) + 1

    def split(self, topk: int) -> tuple[RequestRows, RequestRows]:
        """The rows that see at most `topk` positions, and the others; one that has no rows has no slots either."""
        num_rows = self.last - self.first
        num_dense = min(max(topk - (self.length - num_rows), 0), num_rows)
        middle, num_sparse = self.first + num_dense, num_rows - num_dense
        dense = RequestRows(self.first, middle, self.slots[: self.length - num_sparse if num_dense else 0])
        return dense, RequestRows(middle, self.last, self.slots if num_sparse else self.slots[:0])


class TorchSparseAttnBackend(AttentionBackend):
    """Selects `index_topk` positions with the indexer's scores and attends to those."""

    def __init__(self, model_runner: ModelRunner) -> None:
        super().__init__()
        self.req_to_token_pool = model_runner.req_to_token_pool
        self.token_to_kv_pool = model_runner.token_to_kv_pool
        self.requests: list[RequestRows] = []

    def init_forward_metadata(self, forward_batch: ForwardBatch) -> None:
        """Find each request's rows in the batch and its positions' slots in the pool."""
        lengths, counts = self.extents(forward_batch)
        table, pool_rows = self.req_to_token_pool.req_to_token, forward_batch.req_pool_indices.tolist()
        self.requests, first = [], 0
        for pool_row, length, count in zip(pool_rows, lengths, counts, strict=True):
            self.requests.append(RequestRows(first, first + count, table[pool_row, :length].long()))
            first += count

    def extents(self, forward_batch: ForwardBatch) -> tuple[list[int], list[int]]:
        """How many positions and how many rows of the batch each request has."""
        lengths = forward_batch.seq_lens_cpu.tolist()
        mode = forward_batch.forward_mode
        if mode.is_target_verify():  # the host counts the tokens to verify in draft-extend passes, but not here
            num_rows = forward_batch.spec_info.draft_token_num
            return [length + num_rows for length in lengths], [num_rows] * len(lengths)
        if mode.is_decode_or_idle():
            return lengths, [1] * len(lengths)
        return lengths, list(forward_batch.extend_seq_lens_cpu)

    def select(self, layer_id: int, q: torch.Tensor, head_weights: torch.Tensor, topk: int) -> torch.Tensor:
        """Best-scored positions of every query row.

        Args:
            q: [num_tokens, index_heads, index_dim].
            head_weights: [num_tokens, index_heads] float32, all scaling included.

        Returns:
            [num_tokens, topk] int64 positions within the row's request, padded with -1.
        """
        selection = q.new_full((q.shape[0], topk), -1, dtype=torch.int64)
        keys_by_slot = self.token_to_kv_pool.get_index_k(layer_id)
        for dense, sparse in (request.split(topk) for request in self.requests):
            selection[dense.first : dense.last, : dense.length] = all_positions(dense.limits(), dense.length)
            keys = keys_by_slot[sparse.slots]
            for rows, limits in _row_chunks(sparse, sparse.length * q.shape[1]):
                selection[rows] = top_positions(index_scores(q[rows], keys, head_weights[rows]), limits, topk)
        return selection

    def forward_extend(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        layer: RadixAttention,
        forward_batch: ForwardBatch,
        save_kv_cache: bool = True,
        *,
        q_rope: torch.Tensor,
        k_rope: torch.Tensor,
        topk_indices: torch.Tensor,
    ) -> torch.Tensor:
        """Attend to the selected positions.

        Args:
            q: [num_tokens, heads, kv_lora_rank], `kv_b_proj` absorbed. q_rope: [num_tokens, heads, rope].
            k: [num_tokens, 1, kv_lora_rank], the new tokens' latents. k_rope: [num_tokens, 1, rope].
            topk_indices: [num_tokens, topk] from `select`.

        Returns:
            [num_tokens, heads * kv_lora_rank].
        """
        if save_kv_cache:
            self.token_to_kv_pool.set_mla_kv_buffer(layer, forward_batch.out_cache_loc, k, k_rope)
        cache = self.token_to_kv_pool.get_key_buffer(layer.layer_id).squeeze(1)
        query = torch.cat([q, q_rope], dim=-1).view(-1, layer.tp_q_head_num, layer.head_dim)
        out = query.new_empty(query.shape[0], layer.tp_q_head_num, layer.v_head_dim)
        args = (layer.scaling, layer.v_head_dim)
        topk = topk_indices.shape[1]
        for dense, sparse in (request.split(topk) for request in self.requests):
            latents = cache[dense.slots]
            for rows, limits in _row_chunks(dense, dense.length * layer.tp_q_head_num):
                out[rows] = attend_prefix(query[rows], latents, limits, *args)
            for rows, _ in _row_chunks(sparse, topk * layer.head_dim):
                out[rows] = attend(query[rows], cache[sparse.slots[topk_indices[rows]]], *args)
        return out.flatten(1)

    forward_decode = forward_extend

    def get_cuda_graph_seq_len_fill_value(self) -> int:
        return 1


def _row_chunks(request: RequestRows, elements_per_row: int):
    """Yield (slice of batch rows, limits of those rows) with a bounded number of elements each."""
    step = max(1, MAX_TEMPORARY_ELEMENTS // max(1, elements_per_row))
    limits = request.limits()
    for start in range(request.first, request.last, step):
        stop = min(start + step, request.last)
        yield slice(start, stop), limits[start - request.first : stop - request.first]


def index_scores(q: torch.Tensor, keys: torch.Tensor, head_weights: torch.Tensor) -> torch.Tensor:
    """[rows, H, D], [length, D], [rows, H] float32 -> sum_h weight * relu(q . k), [rows, length] float32."""
    dots = torch.matmul(q.float(), keys.float().t()).relu_()
    return torch.einsum("rhl,rh->rl", dots, head_weights)


def all_positions(limits: torch.Tensor, length: int) -> torch.Tensor:
    """[rows, length] int64: positions 0 to limits[r] - 1 of each row, then -1."""
    positions = torch.arange(length)
    return torch.where(positions < limits.unsqueeze(1), positions, -1)


def top_positions(scores: torch.Tensor, limits: torch.Tensor, topk: int) -> torch.Tensor:
    """The best `topk` of the first `limits[r]` positions of each row, where `topk` is no more than any limit.

    Of equal scores the earlier position wins, so a selection does not depend on how a prompt was cut into chunks.
    """
    outside = torch.arange(scores.shape[1]) >= limits.unsqueeze(1)
    best = scores.masked_fill(outside, float("-inf")).sort(dim=-1, descending=True, stable=True).indices
    return best[:, :topk]


def attend(query: torch.Tensor, latents: torch.Tensor, scaling: float, v_dim: int) -> torch.Tensor:
    """Softmax attention of each row over keys of its own, in float32.

    Args:
        query: [rows, heads, dim]. latents: [rows, topk, dim]; the first `v_dim` numbers are the value.

    Returns:
        [rows, heads, v_dim] in the query's dtype.
    """
    latents = latents.float()
    probs = (torch.einsum("rhd,rwd->rhw", query.float(), latents) * scaling).softmax(dim=-1)
    return torch.einsum("rhw,rwv->rhv", probs, latents[..., :v_dim]).to(query.dtype)


def attend_prefix(
    query: torch.Tensor, latents: torch.Tensor, limits: torch.Tensor, scaling: float, v_dim: int
) -> torch.Tensor:
    """As `attend`, over the first `limits[r]` keys of one context: latents [length, dim], limits [rows]."""
    latents = latents.float()
    outside = torch.arange(latents.shape[0]) >= limits.unsqueeze(1)
    scores = torch.matmul(query.float(), latents.t()) * scaling
    probs = scores.masked_fill_(outside.unsqueeze(1), float("-inf")).softmax(dim=-1)
    return torch.matmul(probs, latents[:, :v_dim]).to(query.dtype)

"""The host's CUDA indexer with its prefill scores in a workspace of fixed size.

The host (0.5.13.post1, `Indexer._get_topk_ragged`) scores a whole prefill batch at once where that takes less than a
share of the memory that was free when the first long prompt came, read once and kept; else it cuts the batch into rows
of that size. For a rank with an FP8 cache it then copies the page table for each row, as many bytes again as the
scores. Here pieces keep to SGLANG_GLM52_LOGITS_MIB, each is as wide as its own requests' contexts and not as all of the
batch, and the page table stays where it is. A score does not depend on what is computed beside it, so pieces change no
score. A piece is handed to the host's top-k as a batch of its own, or a part of the context after the other.
"""

from __future__ import annotations

from dataclasses import replace

import deep_gemm
import torch
from sglang.srt.environ import envs
from sglang.srt.layers.attention.dsa.dsa_indexer import (
    Indexer,
    _broadcast_indexer_topk_from_rank0,
    maybe_capture_indexer_topk,
)
from sglang.srt.layers.attention.dsa.dsa_topk_backend import TopkTransformMethod
from sglang.srt.layers.attention.dsa_backend import DSAIndexerMetadata
from sglang.srt.model_executor.forward_batch_info import ForwardBatch
from sglang.srt.model_executor.forward_context import get_attn_backend, get_token_to_kv_pool
from sglang.srt.server_args import get_global_server_args

from sglang_glm52.attention.fused_decode import is_fused
from sglang_glm52.env import settings
from sglang_glm52.kernels.mla_prologue.kernel import index_prologue
from sglang_glm52.memory.block_pool import in_block
from sglang_glm52.memory.index_selection import BestSoFar, encode, select
from sglang_glm52.memory.score_pieces import TILE_ROWS, Piece, cut_batch, key_bytes, score_bytes
from sglang_glm52.memory.shared_rows import is_shared_out, own_rows
from sglang_glm52.models.router import logits_in_float32

Keys = tuple[torch.Tensor, torch.Tensor]  # [positions, index_dim] FP8 and their scales [positions] float32


class BoundedIndexer(Indexer):
    """Replaces the prefill's scoring and selection; keys, queries and decode steps are the host's.

    Where `attention/fused_decode.py` says so, a decode step's keys and queries are made by `kernels/mla_prologue`.
    """

    def forward_cuda(
        self,
        x: torch.Tensor | tuple[torch.Tensor, ...],
        q_lora: torch.Tensor,
        positions: torch.Tensor,
        forward_batch: ForwardBatch,
        layer_id: int,
        return_indices: bool = True,
    ) -> torch.Tensor | None:
        """The host's; `x` is a tuple where it has been rounded to FP8 already."""
        if isinstance(x, torch.Tensor) and return_indices and is_fused(forward_batch, len(x)):
            return self._select_fused(x, q_lora, positions, forward_batch, layer_id)
        return super().forward_cuda(x, q_lora, positions, forward_batch, layer_id, return_indices)

    def _select_fused(
        self,
        x: torch.Tensor,
        q_lora: torch.Tensor,
        positions: torch.Tensor,
        forward_batch: ForwardBatch,
        layer_id: int,
    ) -> torch.Tensor | None:
        metadata = get_attn_backend().get_indexer_metadata(layer_id, forward_batch)
        if metadata is None:  # as in the host: the backend selects nothing for this batch
            return None
        q_fp8, weights = index_prologue(
            self.wq_b(q_lora)[0].unflatten(-1, (self.n_heads, self.head_dim)),
            self.wk(x)[0],
            logits_in_float32(x, self.weights_proj.weight),
            self.k_norm.weight,
            self.k_norm.bias,
            self.k_norm.variance_epsilon,
            positions,
            self.rotary_emb.cos_sin_cache,
            forward_batch.out_cache_loc,
            get_token_to_kv_pool().get_index_k_with_scale_buffer(layer_id),
        )
        found = self._get_topk_paged(forward_batch, layer_id, q_fp8, weights, metadata)
        return maybe_capture_indexer_topk(layer_id, _broadcast_indexer_topk_from_rank0(found))

    def _get_topk_ragged(
        self,
        enable_dual_stream: bool,
        forward_batch: ForwardBatch,
        layer_id: int,
        q_fp8: torch.Tensor,
        weights: torch.Tensor,
        metadata: DSAIndexerMetadata,
        topk_result: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The best positions of each row, as `metadata` encodes them.

        Args:
            q_fp8: [num_tokens, index_heads, index_dim] FP8; rows beyond the batch's own are padding.
            weights: [num_tokens or more, index_heads, 1] float32, all scaling included.
            topk_result: [num_tokens, index_topk] int32, all -1, to be written to.

        Returns:
            [num_tokens, index_topk] int32, -1 where a row has fewer and in padding.
        """
        if topk_result is None:
            topk_result = q_fp8.new_full((q_fp8.shape[0], self.index_topk), -1, dtype=torch.int32)
        given = layer_id, q_fp8, weights.squeeze(-1), metadata
        counts = metadata.get_dsa_extend_len_cpu()
        num_rows = sum(counts)
        if is_shared_out(counts, metadata.get_indexer_seq_len_cpu().tolist()):
            with own_rows(topk_result[:num_rows]) as (start, stop, own):
                self._select_rows(*given, start, stop, own)
        else:
            self._select_rows(*given, 0, num_rows, topk_result)
        return topk_result

    def _select_rows(
        self,
        layer_id: int,
        q_fp8: torch.Tensor,
        weights: torch.Tensor,
        metadata: DSAIndexerMetadata,
        start: int,
        stop: int,
        out: torch.Tensor,
    ) -> None:
        """Write the selections of the batch's rows [start, stop) to `out` from its row 0 on."""
        counts, lengths = metadata.get_dsa_extend_len_cpu(), metadata.get_indexer_seq_len_cpu().tolist()
        for piece in cut_batch(counts, lengths, _workspace_bytes(), self._wave_rows(), _window(), (start, stop)):
            keys = _gather_keys(layer_id, piece, lengths, metadata)
            base = sum(lengths[: piece.first])
            for span in piece.spans:
                rows, part = slice(*span), cut_metadata(metadata, piece, span, base=base)
                given = q_fp8[rows], weights[rows], keys, part
                is_cut = piece.positions < len(keys[0])
                found = self._select_by_parts(*given, piece.positions) if is_cut else self._select_at_once(*given)
                out[span[0] - start : span[1] - start] = found
            del keys, given  # the next piece's take their place

    def _wave_rows(self) -> int:
        assert self.n_heads * TILE_ROWS == 128, f"DeepGEMM's tile takes {128 // self.n_heads} rows of {self.n_heads=}"
        return TILE_ROWS * self.sm_count

    def _select_at_once(
        self, q_fp8: torch.Tensor, weights: torch.Tensor, keys: Keys, part: DSAIndexerMetadata
    ) -> torch.Tensor:
        starts, ends = part.get_indexer_kvcache_range()
        scores = self._score(q_fp8, weights, keys, starts, ends)
        if not part.topk_backend.is_flashinfer():
            return part.topk_transform(scores, self.index_topk, ks=starts)
        limits = part.get_seqlens_expanded()
        return select(scores, limits, self.index_topk, part.attn_metadata, _encoding(part), starts)

    def _select_by_parts(
        self, q_fp8: torch.Tensor, weights: torch.Tensor, keys: Keys, part: DSAIndexerMetadata, positions: int
    ) -> torch.Tensor:
        """For the rows of one request: `positions` of its context at a time."""
        limits = part.get_seqlens_expanded()
        best = BestSoFar(self.index_topk, part.topk_backend)
        for first in range(0, len(keys[0]), positions):
            some = keys[0][first : first + positions], keys[1][first : first + positions]
            lengths = (limits - first).clamp(0, len(some[0]))
            # No name holds the scores: those of the next part take their place in the workspace.
            best.add(self._score(q_fp8, weights, some, torch.zeros_like(lengths), lengths), lengths, first)
        return encode(best.positions, part.attn_metadata, _encoding(part))

    def _score(
        self, q_fp8: torch.Tensor, weights: torch.Tensor, keys: Keys, starts: torch.Tensor, ends: torch.Tensor
    ) -> torch.Tensor:
        """[rows, positions] float32, undefined outside [starts, ends) of each row; drop it before the next call."""
        num_bytes = score_bytes(len(q_fp8), len(keys[0]))
        with self._with_real_sm_count(), in_block("scores", num_bytes, _workspace_bytes(), q_fp8.device):
            return deep_gemm.fp8_mqa_logits(q_fp8, keys, weights, starts, ends, clean_logits=False)


def cut_metadata(metadata: DSAIndexerMetadata, piece: Piece, span: tuple[int, int], *, base: int) -> DSAIndexerMetadata:
    """What the host would make of the piece's requests and the span's rows, were they all of the batch.

    `base` is how many positions the requests before the piece have. Offsets into the ragged cache stay the batch's.
    """
    batch, (start, stop), requests = metadata.attn_metadata, span, slice(piece.first, piece.last + 1)
    starts, ends = batch.indexer_k_start_end
    if stop - start == len(starts):
        return metadata
    offsets = batch.topk_indices_offset
    cut = replace(
        batch,
        page_table_1=batch.page_table_1[piece.first : piece.last],
        cu_seqlens_q=(batch.cu_seqlens_q[requests] - start).clamp(0, stop - start),
        dsa_seqlens_expanded=batch.dsa_seqlens_expanded[start:stop],
        token_to_batch_idx=batch.token_to_batch_idx[start:stop] - piece.first,
        topk_indices_offset=None if offsets is None else offsets[start:stop],
        indexer_k_start_end=(starts[start:stop] - base, ends[start:stop] - base),
    )
    return replace(metadata, attn_metadata=cut)


def _gather_keys(layer_id: int, piece: Piece, lengths: list[int], metadata: DSAIndexerMetadata) -> Keys:
    """All positions of the piece's requests, one request after the other."""
    requests, own = slice(piece.first, piece.last), lengths[piece.first : piece.last]
    table = metadata.get_page_table_64()[requests]
    with in_block("keys", key_bytes(sum(own)), key_bytes(_window()), table.device):
        keys, scales = get_token_to_kv_pool().get_index_k_scale_buffer(
            layer_id, metadata.get_indexer_seq_len()[requests], table, sum(own), max(own)
        )
    return keys.view(torch.float8_e4m3fn), scales.view(torch.float32).squeeze(-1)


def _encoding(metadata: DSAIndexerMetadata) -> TopkTransformMethod | None:
    return metadata.topk_transform_method if envs.SGLANG_DSA_FUSE_TOPK.get() else None


def _workspace_bytes() -> int:
    return settings().logits_mib << 20


def _window() -> int:
    """Positions of the longest context that this server takes."""
    return get_global_server_args().get_model_config().context_len

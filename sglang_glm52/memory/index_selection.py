"""Selecting a prefill's best positions from its scores, where one call of the host's top-k does not do.

With `--dsa-topk-backend flashinfer` the host hands FlashInfer's page-table kernel columns of one request where a
batch's scores have the columns of all, and a contiguous copy of the scores, twice their memory. The kernel used here
takes both as they are and returns positions. Scores that are computed in parts are selected from part by part.
"""

from __future__ import annotations

import flashinfer
import torch
from sglang.srt.environ import envs
from sglang.srt.layers.attention.dsa.dsa_topk_backend import (
    DSATopKBackend,
    TopkTransformMethod,
    _flashinfer_tie_break_value,
)
from sglang.srt.layers.attention.dsa_backend import DSAIndexerMetadata


class BestSoFar:
    """Each row's best `topk` positions among the parts of its context that it has been given.

    The best of one part and those before it are 2 * topk scores, and a top-k of the host's chooses among them. Its
    default one keeps 4,096 scores that are alike in their upper bits and drops others, which it cannot do here.
    """

    def __init__(self, topk: int, backend: DSATopKBackend) -> None:
        self.topk, self.backend = topk, backend
        self.scores: torch.Tensor | None = None  # [rows, topk] float32, -inf where there are fewer
        self.positions: torch.Tensor | None = None  # [rows, topk] int32, -1 there

    def add(self, scores: torch.Tensor, lengths: torch.Tensor, first: int) -> None:
        """Take over scores [rows, columns] of the positions from `first` on, `lengths` [rows] int32 of them."""
        found = best_positions(scores, lengths, self.topk, self.backend)
        is_none = found < 0
        values = scores.gather(1, found.clamp(min=0).long()).masked_fill_(is_none, float("-inf"))
        positions = (found + first).masked_fill_(is_none, -1)
        if self.scores is not None:
            values, positions = torch.cat([self.scores, values], 1), torch.cat([self.positions, positions], 1)
            all_of_them = torch.full_like(lengths, values.shape[1])
            chosen = best_positions(values, all_of_them, self.topk, self.backend).long()
            values, positions = values.gather(1, chosen), positions.gather(1, chosen)
        self.scores, self.positions = values, positions


def best_positions(
    scores: torch.Tensor,
    lengths: torch.Tensor,
    topk: int,
    backend: DSATopKBackend,
    starts: torch.Tensor | None = None,
) -> torch.Tensor:
    """[rows, topk] int32, -1 where a row has fewer.

    Args:
        scores: [rows, columns] float32, rows of a wider buffer as DeepGEMM returns them, or without gaps.
        lengths: [rows] int32, how many of a row's columns count: from 0 on, or from `starts` [rows] int32.
    """
    if not backend.is_flashinfer():
        return backend.topk_func(scores, lengths, topk, row_starts=starts)
    return flashinfer.top_k_ragged_transform(
        _without_gaps(scores),
        torch.zeros_like(lengths),
        lengths,
        topk,
        deterministic=envs.SGLANG_DSA_TOPK_FLASHINFER_DETERMINISTIC.get(),
        tie_break=_flashinfer_tie_break_value(),
        row_starts=starts,
    )


def _without_gaps(scores: torch.Tensor) -> torch.Tensor:
    """The same rows with all columns of their buffer, as FlashInfer takes them.

    DeepGEMM allocates whole rows, but its result comes to torch as a storage that ends with the last row's own columns,
    so that torch refuses a view of more.
    """
    rows, stride = scores.shape[0], scores.stride(0)
    in_storage = scores.untyped_storage().nbytes() // scores.itemsize - scores.storage_offset()
    if rows * stride <= in_storage:
        return scores.as_strided((rows, stride), (stride, 1))
    return torch.as_tensor(_Rows(scores), device=scores.device)


class _Rows:
    """The memory of a float32 matrix from its first row to its last one's end, and what keeps it allocated."""

    def __init__(self, scores: torch.Tensor) -> None:
        self.scores = scores
        self.__cuda_array_interface__ = {
            "shape": (scores.shape[0], scores.stride(0)),
            "typestr": "<f4",
            "data": (scores.data_ptr(), False),
            "version": 3,
        }


def encode(positions: torch.Tensor, part: DSAIndexerMetadata) -> torch.Tensor:
    """Positions [rows, topk] int32, -1 for none, as the host's own top-k encodes them for its attention kernels."""
    batch = part.attn_metadata
    if not envs.SGLANG_DSA_FUSE_TOPK.get():
        return positions
    if part.topk_transform_method == TopkTransformMethod.PAGED:
        return positions_to_slots(positions, batch.page_table_1, batch.token_to_batch_idx)
    return (positions + batch.topk_indices_offset.unsqueeze(1)).masked_fill_(positions < 0, -1)


def positions_to_slots(positions: torch.Tensor, page_table: torch.Tensor, requests: torch.Tensor) -> torch.Tensor:
    """Positions [rows, topk], -1 for none, to the slots that `page_table` [requests, context] gives each row's."""
    slots = page_table[requests.long().unsqueeze(1), positions.clamp(min=0).long()]
    return slots.masked_fill_(positions < 0, -1)

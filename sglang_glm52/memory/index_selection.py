"""Selecting each row's best positions from its scores, and encoding them as the host's attention kernels take them.

With `--dsa-topk-backend flashinfer`, the default for GLM-5.2, the host hands FlashInfer columns of one request in a
prefill where a batch's scores have the columns of all, and copies the scores. The call made here takes both as they
are. SGLANG_GLM52_INDEX_TOPK=ascending selects with this package's own kernel. Scores that are computed in parts are
selected from part by part.
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
from sglang.srt.layers.attention.dsa_backend import DSAMetadata

from sglang_glm52.env import settings
from sglang_glm52.kernels.index_topk import index_topk


def select(
    scores: torch.Tensor,
    lengths: torch.Tensor,
    topk: int,
    batch: DSAMetadata,
    method: TopkTransformMethod | None,
    starts: torch.Tensor | None = None,
) -> torch.Tensor:
    """The best positions of each row, encoded.

    Args:
        scores: [rows, columns] float32, rows of a wider buffer as DeepGEMM returns them.
        lengths: [rows] int32, how many of a row's columns count: from 0 on, or from `starts` [rows] int32.
        method: PAGED encodes positions as slots, RAGGED as rows of the batch's contexts; None leaves them as they are.

    Returns:
        [rows, topk] int32, -1 where a row has fewer.
    """
    if settings().index_topk != "ascending":
        return encode(_flashinfer_topk(scores, lengths, topk, starts), batch, method)
    lengths = lengths.contiguous()
    if method is None:
        return index_topk(scores, lengths, topk, starts=starts)
    if method == TopkTransformMethod.RAGGED:
        return index_topk(scores, lengths, topk, starts=starts, offsets=batch.topk_indices_offset)
    table = batch.page_table_1  # a row for each row of scores, or for each request
    rows = None if len(table) == len(scores) else batch.token_to_batch_idx
    return index_topk(scores, lengths, topk, starts=starts, table=table, table_rows=rows)


class BestSoFar:
    """Each row's best `topk` positions among the parts of its context that it has been given.

    The best of one part and those before it are 2 * topk scores, and a top-k chooses among them. The host's default one
    keeps 4,096 scores that are alike in their upper bits and drops others, which it cannot do here.
    """

    def __init__(self, topk: int, backend: DSATopKBackend) -> None:
        self.topk, self.backend = topk, backend
        self.scores: torch.Tensor | None = None  # [rows, topk] float32, -inf where there are fewer
        self.positions: torch.Tensor | None = None  # [rows, topk] int32, -1 there

    def add(self, scores: torch.Tensor, lengths: torch.Tensor, first: int) -> None:
        """Take over scores [rows, columns] of the positions from `first` on, `lengths` [rows] int32 of them."""
        found = self._best(scores, lengths)
        is_none = found < 0
        values = scores.gather(1, found.clamp(min=0).long()).masked_fill_(is_none, float("-inf"))
        positions = (found + first).masked_fill_(is_none, -1)
        if self.scores is not None:
            values, positions = torch.cat([self.scores, values], 1), torch.cat([self.positions, positions], 1)
            all_of_them = torch.full_like(lengths, values.shape[1])
            chosen = self._best(values, all_of_them).long()
            values, positions = values.gather(1, chosen), positions.gather(1, chosen)
        self.scores, self.positions = values, positions

    def _best(self, scores: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        if not self.backend.is_flashinfer():
            return self.backend.topk_func(scores, lengths, self.topk)
        if settings().index_topk == "ascending":
            return index_topk(scores, lengths, self.topk)
        return _flashinfer_topk(scores, lengths, self.topk)


def encode(positions: torch.Tensor, batch: DSAMetadata, method: TopkTransformMethod | None) -> torch.Tensor:
    """Positions [rows, topk] int32, -1 for none, as `select` encodes them."""
    if method is None:
        return positions
    if method == TopkTransformMethod.PAGED:
        return positions_to_slots(positions, batch.page_table_1, batch.token_to_batch_idx)
    return (positions + batch.topk_indices_offset.unsqueeze(1)).masked_fill_(positions < 0, -1)


def positions_to_slots(positions: torch.Tensor, page_table: torch.Tensor, requests: torch.Tensor) -> torch.Tensor:
    """Positions [rows, topk], -1 for none, to the slots that `page_table` [requests, context] gives each row's."""
    slots = page_table[requests.long().unsqueeze(1), positions.clamp(min=0).long()]
    return slots.masked_fill_(positions < 0, -1)


def _flashinfer_topk(
    scores: torch.Tensor, lengths: torch.Tensor, topk: int, starts: torch.Tensor | None = None
) -> torch.Tensor:
    """[rows, topk] int32 positions in no order, -1 where a row has fewer; arguments as for `select`."""
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

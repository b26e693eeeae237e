"""Selecting each row's best positions from its scores, and encoding them as the host's attention kernels take them.

Where the host would call FlashInfer's top-k, which it does for GLM-5.2 by default (hook `dsa_defaults`), this package's
own kernel selects. Scores that are computed in parts are selected from part by part.
"""

from __future__ import annotations

import torch
from sglang.srt.layers.attention.dsa.dsa_topk_backend import DSATopKBackend, TopkTransformMethod
from sglang.srt.layers.attention.dsa_backend import DSAMetadata

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
        choose = index_topk if self.backend.is_flashinfer() else self.backend.topk_func
        return choose(scores, lengths, self.topk)


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

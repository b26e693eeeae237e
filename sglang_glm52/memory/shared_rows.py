"""The rows of a prefill shared out over the ranks of attention TP, unless SGLANG_GLM52_PREFILL_ROWS is "all".

Tensor parallelism splits attention by heads, but the indexer has all its heads on every rank: each computes the same
scores of all rows and selects from them. A row's selection needs no other row, so each rank may select for a share of
them and hand it to the others: 8 KiB a row instead of 32 x 128 x 2 multiplications for each of its positions. All ranks
then attend to the same positions too, where else each breaks ties on its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from sglang.srt.layers.dp_attention import (
    attn_tp_all_gather_into_tensor,
    get_attention_tp_rank,
    get_attention_tp_size,
)

from sglang_glm52.env import settings

MIN_SCORES = 1 << 25  # a batch of fewer takes less time than the exchange of its selections


def is_shared_out(row_counts: Sequence[int], lengths: Sequence[int]) -> bool:
    """Whether a batch's rows are worth sharing out; the same on every rank of the group, which have the same batch."""
    if settings().prefill_rows == "all" or get_attention_tp_size() == 1:
        return False
    return sum(rows * length for rows, length in zip(row_counts, lengths, strict=True)) >= MIN_SCORES


@contextmanager
def own_rows(selections: torch.Tensor) -> Iterator[tuple[int, int, torch.Tensor]]:
    """This rank's share of `selections` [rows, topk] int32: (start, stop, where to write their selections).

    At the end every rank's share is in `selections`, on all of them.
    """
    size, num_rows = get_attention_tp_size(), len(selections)
    share = -(-num_rows // size)
    start = min(get_attention_tp_rank() * share, num_rows)
    own = selections.new_full((share, selections.shape[1]), -1)
    yield start, min(start + share, num_rows), own
    everyones = own.new_empty(size * share, own.shape[1])
    attn_tp_all_gather_into_tensor(everyones, own)
    selections.copy_(everyones[:num_rows])

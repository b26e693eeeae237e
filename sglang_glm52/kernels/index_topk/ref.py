"""Each row's best positions in plain torch: what the kernel is held to. Runs on a CPU."""

from __future__ import annotations

import torch


def index_topk(
    scores: torch.Tensor,
    lengths: torch.Tensor,
    topk: int,
    *,
    starts: torch.Tensor | None = None,
    table: torch.Tensor | None = None,
    table_rows: torch.Tensor | None = None,
    offsets: torch.Tensor | None = None,
) -> torch.Tensor:
    """The best `topk` positions of each row in ascending order, of equal scores the first ones, then -1.

    Args:
        scores: [rows, columns] float32; -0 equals 0.
        lengths: [rows] int32, how many of a row's columns count: from 0 on, or from `starts` [rows] int32.
        table: [n, at least columns] int32: position p becomes table[row, p], or table[table_rows[row], p].
        offsets: [rows] int32: position p becomes p + offsets[row].

    Returns:
        [rows, topk] int32.
    """
    out = torch.full((scores.shape[0], topk), -1, dtype=torch.int32, device=scores.device)
    for row, length in enumerate(lengths.tolist()):
        start = 0 if starts is None else int(starts[row])
        best = torch.sort(scores[row, start : start + length], descending=True, stable=True).indices[:topk]
        positions = best.sort().values
        if table is not None:
            positions = table[row if table_rows is None else table_rows[row], positions]
        if offsets is not None:
            positions = positions + offsets[row]
        out[row, : len(positions)] = positions
    return out

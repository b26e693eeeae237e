"""The operation in plain torch."""

from __future__ import annotations

import torch

from sglang_glm52.kernels.request_tables.tables import RequestTables


def request_tables(
    out: RequestTables,
    pool_table: torch.Tensor,
    pool_rows: torch.Tensor,
    seq_lens: torch.Tensor,
    *,
    first: int,
    index_topk: int,
    page_size: int,
) -> None:
    """See `kernel.py`."""
    rows = out.num_rows // out.num_requests
    row_lengths = seq_lens.long().unsqueeze(1) + first + torch.arange(rows, device=seq_lens.device)
    row_lengths = row_lengths.clamp(min=1)
    out.lengths.copy_(row_lengths[:, -1])
    out.row_lengths.copy_(row_lengths.flatten())
    out.kept_lengths.copy_(out.row_lengths.clamp(max=index_topk))
    out.ends[1:] = out.lengths.cumsum(0)
    out.kept_ends[1:] = out.kept_lengths.cumsum(0)
    for request, (row, length) in enumerate(zip(pool_rows.tolist(), out.lengths.tolist(), strict=True)):
        own = slice(request * rows, (request + 1) * rows)
        slots = pool_table[row, :length]
        out.slots[own, :length] = slots
        pages = slots[::page_size] // page_size
        out.pages[own, : len(pages)] = pages

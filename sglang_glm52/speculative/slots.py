"""Where a request's next tokens lie in the KV pool: reads and writes of the request pool's table.

The table [num_pool_rows, max_positions] holds the slot of each position of each request. Draft, verify and draft-extend
passes of a round use the same positions, from the committed length on, and so the same slots.
"""

from __future__ import annotations

import torch


def read_slots(table: torch.Tensor, pool_rows: torch.Tensor, starts: torch.Tensor, count: int) -> torch.Tensor:
    """[num_requests * count] int64: slots of positions [start, start + count) of each request."""
    positions = starts.long().unsqueeze(1) + torch.arange(count, device=table.device)
    return table[pool_rows.long().unsqueeze(1), positions].flatten().long()


def write_slots(
    table: torch.Tensor, pool_rows: torch.Tensor, starts: torch.Tensor, ends: torch.Tensor, slots: torch.Tensor
) -> None:
    """Enter `slots` [sum(ends - starts)] at positions [start, end) of each request, one request after the other."""
    counts = (ends - starts).long()
    request = torch.repeat_interleave(torch.arange(len(counts), device=table.device), counts)
    offset = torch.arange(len(request), device=table.device) - (counts.cumsum(0) - counts)[request]
    table[pool_rows.long()[request], starts.long()[request] + offset] = slots.to(table.dtype)

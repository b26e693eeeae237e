"""Attention shared out by rows where tensor parallelism shares it out by heads.

FlashMLA's prefill kernel works on 64 heads at least. A rank of TP 8 has 8 of GLM-5.2's 64, so seven eighths of what the
kernel computes there are padding, on every rank. As each rank has the latents of all positions, it may as well attend
with all heads for a share of the rows: the ranks exchange queries before and outputs after, and nothing is padded.
"""

from __future__ import annotations

import torch
import torch.distributed as dist


def to_rows(heads: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
    """All heads for this rank's share of the rows.

    Args:
        heads: [rows, heads of a rank, dim], of all rows, the same number on each rank.

    Returns:
        [share, all heads, dim]; a share is the rows over the ranks, rounded up, the last ones filled with zeros.
    """
    size, (num_rows, num_heads, dim) = group.size(), heads.shape
    share = share_of(num_rows, size)
    if num_rows != size * share:
        heads = torch.cat([heads, heads.new_zeros(size * share - num_rows, num_heads, dim)])
    given = _exchange(heads.reshape(size, share, num_heads, dim), group)
    return given.transpose(0, 1).reshape(share, size * num_heads, dim)


def to_heads(rows: torch.Tensor, num_rows: int, group: dist.ProcessGroup) -> torch.Tensor:
    """This rank's heads for all `num_rows` rows, from [share, all heads, dim]: [rows, heads of a rank, dim]."""
    size, (share, num_heads, dim) = group.size(), rows.shape
    given = _exchange(rows.reshape(share, size, num_heads // size, dim).transpose(0, 1).contiguous(), group)
    return given.reshape(size * share, num_heads // size, dim)[:num_rows]


def own_rows(everyones: torch.Tensor, group: dist.ProcessGroup, fill: int) -> torch.Tensor:
    """This rank's share of what each rank has for all rows, [rows, any]; missing rows are filled with `fill`."""
    share = share_of(len(everyones), group.size())
    own = everyones[group.rank() * share : (group.rank() + 1) * share]
    return torch.cat([own, own.new_full((share - len(own), own.shape[1]), fill)]) if len(own) < share else own


def share_of(num_rows: int, size: int) -> int:
    return -(-num_rows // size)


def _exchange(parts: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
    """Part i of [ranks, ...] goes to rank i; what comes back is in the order of the ranks that sent it."""
    given = torch.empty_like(parts)
    dist.all_to_all_single(given, parts, group=group)
    return given

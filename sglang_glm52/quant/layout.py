"""Loaded scales -> the order the expert kernels read, and back. The packed weights stay as the checkpoint has them.

A checkpoint stores a row's scales side by side, [experts, rows, groups]. A kernel works on a tile of rows, one group of
128 inputs after the other, and wants the rows' scales side by side.
"""

from __future__ import annotations

import torch


def group_major(scale: torch.Tensor) -> torch.Tensor:
    """[experts, rows, groups] of any float dtype -> [experts, groups, rows] bf16, contiguous.

    Exact for scales of the int4 format, which are bf16 numbers whatever they are stored as.
    """
    return _swapped(scale.to(torch.bfloat16))


def row_major(scale: torch.Tensor) -> torch.Tensor:
    """The inverse: [experts, groups, rows] -> [experts, rows, groups], same dtype, contiguous."""
    return _swapped(scale)


def _swapped(scale: torch.Tensor) -> torch.Tensor:
    if scale.dim() != 3:
        raise ValueError(f"scales of experts have three dimensions, got {tuple(scale.shape)}")
    return scale.transpose(1, 2).contiguous()

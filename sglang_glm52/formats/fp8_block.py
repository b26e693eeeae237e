"""FP8 blocks: e4m3 weights with one float32 scale for each block of 128 rows by 128 columns, `w ~ q * scale`.

Blocks at the right and lower edge may be partial. An all-zero block has scale 1.
"""

from __future__ import annotations

import torch

BLOCK = 128
E4M3_MAX = 448.0


def quantize_fp8_block(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantise a matrix, scale = absmax / 448 of each block.

    Args:
        weight: [out, in], any float dtype, finite.

    Returns:
        q [out, in] float8_e4m3fn and scale [ceil(out / 128), ceil(in / 128)] float32.

    Raises:
        ValueError: not a matrix, or it holds NaN or infinity.
    """
    if weight.dim() != 2:
        raise ValueError(f"FP8 blocks need a matrix [out, in], got shape {tuple(weight.shape)}")
    if not torch.isfinite(weight).all():
        raise ValueError("the weight holds NaN or infinity and cannot be quantised; repair the checkpoint")
    rows, cols = weight.shape
    padded = torch.nn.functional.pad(weight.float(), (0, -cols % BLOCK, 0, -rows % BLOCK))
    blocks = padded.unflatten(1, (-1, BLOCK)).unflatten(0, (-1, BLOCK))  # [row blocks, 128, col blocks, 128]
    absmax = blocks.abs().amax(dim=(1, 3))
    # Below the smallest normal a scale would lose bits, and dividing by it could overflow.
    scale = torch.where(absmax > 0, absmax / E4M3_MAX, 1.0).clamp_min(torch.finfo(torch.float32).tiny)
    q = (padded / expand_scale(scale, padded.shape)).clamp(-E4M3_MAX, E4M3_MAX)
    return q[:rows, :cols].to(torch.float8_e4m3fn), scale


def dequantize_fp8_block(q: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """[out, in] e4m3 and its block scales -> [out, in] in `dtype`, computed in float32.

    Raises:
        ValueError: the scales do not cover the matrix.
    """
    expected = tuple(-(-dim // BLOCK) for dim in q.shape)
    if tuple(scale.shape) != expected:
        raise ValueError(f"scales of a {tuple(q.shape)} matrix have shape {expected}, got {tuple(scale.shape)}")
    return (q.float() * expand_scale(scale, q.shape)).to(dtype)


def expand_scale(scale: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Block scales -> one float32 for each element of a matrix of `shape`."""
    rows, cols = shape
    return scale.float().repeat_interleave(BLOCK, 0)[:rows].repeat_interleave(BLOCK, 1)[:, :cols]

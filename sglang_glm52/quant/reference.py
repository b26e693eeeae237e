"""int4 experts with per-token FP8 activations in plain torch: what the CUDA path computes, and its test's reference."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from sglang_glm52.formats.fp8_block import E4M3_MAX
from sglang_glm52.formats.int4_group import Int4Group, dequantize_int4_group


def quantize_rows(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[rows, cols] -> e4m3 values as float32 and scales [rows, 1], largest absolute value / 448 (1 for zero rows)."""
    scale = x.float().abs().amax(dim=-1, keepdim=True) / E4M3_MAX
    scale = torch.where(scale > 0, scale, 1.0)
    return (x.float() / scale).to(torch.float8_e4m3fn).float(), scale


def int4_experts(
    x: torch.Tensor, w13: list[Int4Group], w2: list[Int4Group], weights: torch.Tensor, ids: torch.Tensor
) -> torch.Tensor:
    """sum over a row's experts of weight * w2 @ fp8(silu(gate) * up), where (gate, up) = w13 @ fp8(x); float32.

    Args:
        x: [num_tokens, hidden]. w13: each expert's [2 * inner, hidden], w2: each expert's [hidden, inner].
        weights: [num_tokens, topk]. ids: [num_tokens, topk], negative for experts that are not here.

    Returns:
        [num_tokens, hidden] float32.
    """
    out = torch.zeros_like(x, dtype=torch.float32)
    q, scale = quantize_rows(x)
    for expert in ids[ids >= 0].unique().tolist():
        rows, slots = (ids == expert).nonzero(as_tuple=True)
        gate, up = _product(q[rows], scale[rows], w13[expert]).chunk(2, dim=-1)
        inner = quantize_rows((F.silu(gate) * up).to(x.dtype))
        out.index_add_(0, rows, _product(*inner, w2[expert]) * weights[rows, slots].unsqueeze(1))
    return out


def _product(q: torch.Tensor, scale: torch.Tensor, expert: Int4Group) -> torch.Tensor:
    return q @ dequantize_int4_group(*expert).T * scale

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
    x: torch.Tensor,
    w13: list[Int4Group],
    w2: list[Int4Group],
    weights: torch.Tensor,
    ids: torch.Tensor,
    gemm_dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """sum over a row's experts of weight * w2 @ fp8(silu(gate) * up), where (gate, up) = w13 @ fp8(x); float32.

    Args:
        x: [num_tokens, hidden]. w13: each expert's [2 * inner, hidden], w2: each expert's [hidden, inner].
        weights: [num_tokens, topk]. ids: [num_tokens, topk], negative for experts that are not here.
        gemm_dtype: what the products of FP8 values and weights are rounded to before the rows' scales are applied.
            bf16 here costs more than its own precision: values next to an FP8 rounding edge fall on its other side.

    Returns:
        [num_tokens, hidden] float32.
    """
    out = torch.zeros_like(x, dtype=torch.float32)
    q, scale = quantize_rows(x)
    for expert in ids[ids >= 0].unique().tolist():
        rows, slots = (ids == expert).nonzero(as_tuple=True)
        gate, up = _product(q[rows], scale[rows], w13[expert], gemm_dtype).chunk(2, dim=-1)
        inner = quantize_rows((F.silu(gate) * up).to(x.dtype))
        out.index_add_(0, rows, _product(*inner, w2[expert], gemm_dtype) * weights[rows, slots].unsqueeze(1))
    return out


def _product(q: torch.Tensor, scale: torch.Tensor, expert: Int4Group, dtype: torch.dtype) -> torch.Tensor:
    return (q @ dequantize_int4_group(*expert).T).to(dtype).float() * scale

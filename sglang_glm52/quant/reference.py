"""int4 experts with per-token FP8 activations in plain torch: what the CUDA path computes, and its test's reference."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from sglang_glm52.formats.fp8_block import E4M3_MAX
from sglang_glm52.formats.int4_group import Int4Group, dequantize_int4_group


def quantize_dequantize_rows(x: torch.Tensor) -> torch.Tensor:
    """[rows, cols] -> float32, each row rounded to e4m3 with scale = largest absolute value / 448 (zero rows stay)."""
    scale = x.float().abs().amax(dim=-1, keepdim=True) / E4M3_MAX
    scale = torch.where(scale > 0, scale, 1.0)
    return (x.float() / scale).to(torch.float8_e4m3fn).float() * scale


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
    rounded = quantize_dequantize_rows(x)
    for expert in ids[ids >= 0].unique().tolist():
        rows, slots = (ids == expert).nonzero(as_tuple=True)
        gate, up = (rounded[rows] @ dequantize_int4_group(*w13[expert]).T).chunk(2, dim=-1)
        inner = quantize_dequantize_rows((F.silu(gate) * up).to(x.dtype))
        out.index_add_(0, rows, inner @ dequantize_int4_group(*w2[expert]).T * weights[rows, slots].unsqueeze(1))
    return out

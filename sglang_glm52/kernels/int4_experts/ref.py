"""int4 experts in plain torch, as the formulas stand: what every path of the op is held to. Runs on a CPU."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from sglang_glm52.formats.fp8_block import E4M3_MAX
from sglang_glm52.formats.int4_group import dequantize_int4_group
from sglang_glm52.kernels.int4_experts.weights import ExpertWeights, StaticScales


def int4_experts(
    x: torch.Tensor,
    *,
    weights: ExpertWeights,
    topk_weights: torch.Tensor,
    topk_ids: torch.Tensor,
    factor: float,
    static: StaticScales | None = None,
) -> torch.Tensor:
    """factor * sum over a token's slots of topk_weight * w2 @ fp8(silu(gate) * up), where (gate, up) = w13 @ fp8(x).

    Args:
        x: [num_tokens, hidden] bf16.
        topk_weights: [num_tokens, topk] float32.
        topk_ids: [num_tokens, topk] int32, negative for an expert that is not here: its slot contributes nothing.
        static: activation scales for all tokens; without them each row's is its largest absolute value / 448.

    Returns:
        [num_tokens, hidden] bf16; zero in rows without an expert here. Products and sums are float32.
    """
    slots = x.new_zeros((*topk_ids.shape, weights.hidden), dtype=torch.float32)  # [num_tokens, topk, hidden]
    q, scale = quantize_rows(x, static.x if static else None)
    for expert in topk_ids[topk_ids >= 0].unique().tolist():
        rows, columns = (topk_ids == expert).nonzero(as_tuple=True)
        gate, up = _product(q[rows], scale[rows], weights.w13[expert], weights.scale13[expert]).chunk(2, dim=-1)
        h = quantize_rows((F.silu(gate) * up).bfloat16(), static.h if static else None)
        slots[rows, columns] = _product(*h, weights.w2[expert], weights.scale2[expert])
    out = torch.zeros_like(x, dtype=torch.float32)
    for slot in range(topk_ids.shape[1]):
        out += topk_weights[:, slot, None] * slots[:, slot]
    return (factor * out).bfloat16()


def quantize_rows(x: torch.Tensor, static: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Round rows to FP8.

    Args:
        x: [rows, cols].
        static: one float32, the scale of all rows; without it each row's largest absolute value / 448, 1 for zeros.

    Returns:
        e4m3 values as float32 [rows, cols], saturated at 448, and scales [rows, 1] float32; x ~ values * scale.
    """
    if static is None:
        largest = x.float().abs().amax(dim=-1, keepdim=True)
        scale = largest / torch.full_like(largest, E4M3_MAX)  # on CUDA torch multiplies by a number's reciprocal
        scale = torch.where(scale > 0, scale, 1.0)
    else:
        scale = static.reshape(1, 1).expand(x.shape[0], 1)
    return (x.float() / scale).clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn).float(), scale


def _product(q: torch.Tensor, scale: torch.Tensor, packed: torch.Tensor, group_scale: torch.Tensor) -> torch.Tensor:
    """[rows, in] and [rows, 1] float32 times int4 [out, in / 2] with scales [in / 128, out] -> [rows, out] float32."""
    return q @ dequantize_int4_group(packed, group_scale.T).T * scale

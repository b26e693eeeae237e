"""Routed experts in plain torch: the CPU engine's, whatever the split over ranks.

The host's own torch path indexes by expert id, and with expert parallelism the ids of other ranks' experts are -1.
"""

from __future__ import annotations

import torch
from sglang.srt.layers.moe.fused_moe_triton.layer import FusedMoE
from sglang.srt.layers.moe.token_dispatcher import CombineInput, DispatchOutput, StandardCombineInput
from torch.nn import functional as F


def apply_experts(
    x: torch.Tensor, w13: torch.Tensor, w2: torch.Tensor, weights: torch.Tensor, ids: torch.Tensor
) -> torch.Tensor:
    """sum over a row's experts of weight * w2 @ (silu(gate) * up), where (gate, up) = w13 @ x; summed in float32.

    Args:
        x: [num_tokens, hidden]. w13: [num_local_experts, 2 * inner, hidden]. w2: [num_local_experts, hidden, inner].
        weights: [num_tokens, topk] float32. ids: [num_tokens, topk], negative for experts that are not here.

    Returns:
        [num_tokens, hidden] in the dtype of `x`; zero in rows that have no expert here.
    """
    out = torch.zeros_like(x, dtype=torch.float32)
    for expert in ids[ids >= 0].unique().tolist():
        rows, slots = (ids == expert).nonzero(as_tuple=True)
        gate, up = F.linear(x[rows], w13[expert]).chunk(2, dim=-1)
        down = F.linear(F.silu(gate) * up, w2[expert])
        out.index_add_(0, rows, down * weights[rows, slots].unsqueeze(1))
    return out.to(x.dtype)


class CpuExperts(FusedMoE):
    """The host's experts with its parameters, loading and dispatch; computed by `apply_experts`."""

    def run_moe_core(self, dispatch_output: DispatchOutput) -> CombineInput:
        weights, ids, _ = dispatch_output.topk_output
        out = apply_experts(dispatch_output.hidden_states, self.w13_weight, self.w2_weight, weights, ids)
        return StandardCombineInput(hidden_states=out)

"""int4 routed experts whose inputs are scaled to FP8 token by token. CUDA.

The grouped GEMM is the host's (CUTLASS, int4 weights against FP8 rows). Its chain of kernels around that GEMM knows one
activation scale for all tokens; here each row has its own, applied to the GEMM's output, so a result depends neither on
the other rows of a batch nor on how experts are split over ranks. `reference.py` is the same in plain torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from sglang.srt.layers.quantization.w4afp8 import W4AFp8MoEMethod, interleave_scales

from sglang_glm52.formats.int4_group import GROUP

if TYPE_CHECKING:
    from sglang.srt.layers.moe.token_dispatcher import CombineInput, StandardDispatchOutput


class DynamicExpertsMethod(W4AFp8MoEMethod):
    """The host's parameters without static scales, and `apply_int4_experts`."""

    def create_weights(self, layer: torch.nn.Module, *args: object, **kwargs: object) -> None:
        super().create_weights(layer, *args, **kwargs)
        del layer.w13_input_scale, layer.w2_input_scale
        self.one = torch.ones(1, dtype=torch.float32, device=layer.w13_weight.device)

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """Bring the group scales into the order that the grouped GEMM reads."""
        for name in ("w13_weight_scale_inv", "w2_weight_scale_inv"):
            scale = interleave_scales(getattr(layer, name).to(torch.bfloat16))
            setattr(layer, name, torch.nn.Parameter(scale, requires_grad=False))

    def apply(self, layer: torch.nn.Module, dispatch_output: StandardDispatchOutput) -> CombineInput:
        from sglang.srt.layers.moe.token_dispatcher import StandardCombineInput

        weights, ids, _ = dispatch_output.topk_output
        factor = self.moe_runner_config.routed_scaling_factor or 1.0
        out = apply_int4_experts(self, layer, dispatch_output.hidden_states, weights, ids, factor)
        return StandardCombineInput(hidden_states=out)


def apply_int4_experts(
    method: DynamicExpertsMethod,
    layer: torch.nn.Module,
    x: torch.Tensor,
    weights: torch.Tensor,
    ids: torch.Tensor,
    routed_scaling_factor: float,
) -> torch.Tensor:
    """sum over a row's experts of weight * w2 @ (silu(gate) * up), where (gate, up) = w13 @ x, times the factor.

    Args:
        layer: w13_weight [num_local_experts, 2 * inner, hidden / 2] int8 and w2_weight [num_local_experts, hidden,
            inner / 2] int8, scales interleaved.
        x: [num_tokens, hidden] bf16. weights: [num_tokens, topk] float32.
        ids: [num_tokens, topk] int32, -1 for experts of other ranks.

    Returns:
        [num_tokens, hidden] bf16; zero in rows without an expert here.
    """
    from sgl_kernel import get_cutlass_w4a8_moe_mm_data
    from sglang.srt.layers.moe.ep_moe.kernels import cutlass_w4_run_moe_ep_preproess, post_reorder_for_cutlass_moe

    if x.shape[0] == 0:
        return torch.empty_like(x)
    num_experts, hidden = layer.w2_weight.shape[:2]
    inner, topk, rows = layer.w2_weight.shape[2] * 2, ids.shape[1], ids.numel()
    ids = torch.where(ids < 0, num_experts, ids)  # sorted behind all others, where the GEMMs do not look
    row_of = cutlass_w4_run_moe_ep_preproess(ids)  # [rows] int32: (token, k) -> its row in expert order
    unused = torch.empty(rows, dtype=torch.int32, device=x.device)
    get_cutlass_w4a8_moe_mm_data(
        ids,
        method.expert_offsets,
        method.problem_sizes1,
        method.problem_sizes2,
        unused,
        unused,
        num_experts,
        inner,
        hidden,
    )
    q, scale = _quantize_rows(x)
    q, scale = _in_expert_order(q, row_of, topk), _in_expert_order(scale, row_of, topk)
    strides1 = method.a_strides1, method.b_strides1, method.c_strides1, method.s_strides13
    gate_up = _grouped_gemm(
        method, q, layer.w13_weight, layer.w13_weight_scale_inv, method.problem_sizes1, strides1, topk
    )
    gate, up = (gate_up * scale).chunk(2, dim=-1)  # float32
    q, scale = _quantize_rows((torch.nn.functional.silu(gate) * up).to(x.dtype))
    strides2 = method.a_strides2, method.b_strides2, method.c_strides2, method.s_strides2
    down = _grouped_gemm(method, q, layer.w2_weight, layer.w2_weight_scale_inv, method.problem_sizes2, strides2, topk)
    down = (down * scale).to(x.dtype)
    out = torch.empty_like(x)
    post_reorder_for_cutlass_moe(
        down, out, row_of, ids, weights, num_experts, topk, x.shape[0], hidden, routed_scaling_factor
    )
    return out


def _quantize_rows(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[rows, cols] bf16 -> e4m3 of that shape and scales [rows, 1] float32, largest absolute value / 448."""
    from sglang.srt.layers.quantization.fp8_kernel import sglang_per_token_quant_fp8

    return sglang_per_token_quant_fp8(x.contiguous())


def _in_expert_order(values: torch.Tensor, row_of: torch.Tensor, topk: int) -> torch.Tensor:
    """[num_tokens, n] -> [num_tokens * topk, n]: each token's row copied to the rows of its experts."""
    ordered = values.new_empty(row_of.numel(), values.shape[1])
    copies = values.unsqueeze(1).expand(-1, topk, -1).flatten(0, 1)
    if values.dtype == torch.float8_e4m3fn:  # index_copy has no FP8; the bytes are moved
        ordered.view(torch.uint8).index_copy_(0, row_of.long(), copies.view(torch.uint8))
    else:
        ordered.index_copy_(0, row_of.long(), copies)
    return ordered


def _grouped_gemm(
    method: DynamicExpertsMethod,
    q: torch.Tensor,
    weight: torch.Tensor,
    weight_scale: torch.Tensor,
    problem_sizes: torch.Tensor,
    strides: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor],
    topk: int,
) -> torch.Tensor:
    """FP8 rows in expert order times int4 weights -> [rows, out] bf16, the rows' scales still to be applied."""
    from sgl_kernel import cutlass_w4a8_moe_mm

    a_strides, b_strides, c_strides, s_strides = strides
    out = torch.empty(q.shape[0], weight.shape[1], dtype=torch.bfloat16, device=q.device)
    offsets = method.expert_offsets[:-1]
    cutlass_w4a8_moe_mm(
        out,
        q,
        weight,
        method.one,
        weight_scale,
        offsets,
        problem_sizes,
        a_strides,
        b_strides,
        c_strides,
        s_strides,
        GROUP,
        topk,
    )
    return out

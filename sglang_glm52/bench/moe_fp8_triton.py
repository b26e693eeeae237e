"""SGLang's fused Triton MoE, as it serves an FP8 checkpoint: FP8 blocks, inputs scaled in groups of 128.

The weights are the layer's int4 ones rounded to FP8 blocks, so that the result can be held to the same reference; it
reads twice the bytes.
"""

from __future__ import annotations

import torch

from sglang_glm52.bench.moe_layer import Call, Layer
from sglang_glm52.bench.moe_single_rank import set_up_single_rank
from sglang_glm52.formats.fp8_block import BLOCK, quantize_fp8_block
from sglang_glm52.formats.int4_group import dequantize_int4_group
from sglang_glm52.kernels.int4_experts.cases import FACTOR, Inputs


def prepare(layer: Layer) -> Call:
    from sglang.srt.layers.moe.fused_moe_triton import fused_experts
    from sglang.srt.layers.moe.moe_runner import MoeRunnerConfig
    from sglang.srt.layers.moe.topk import StandardTopKOutput

    set_up_single_rank()
    weights = layer.weights
    w13, scale13 = _in_fp8(weights.w13, weights.scale13)
    w2, scale2 = _in_fp8(weights.w2, weights.scale2)
    config = MoeRunnerConfig(
        num_experts=weights.num_experts,
        num_local_experts=weights.num_experts,
        inplace=False,
        routed_scaling_factor=FACTOR,
    )

    def call(inputs: Inputs) -> torch.Tensor:
        logits = inputs.topk_weights  # unread
        return fused_experts(
            inputs.x,
            w13,
            w2,
            StandardTopKOutput(inputs.topk_weights, inputs.topk_ids, logits),
            config,
            use_fp8_w8a8=True,
            w1_scale=scale13,
            w2_scale=scale2,
            block_shape=[BLOCK, BLOCK],
        )

    return call


def _in_fp8(packed: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[experts, out, in / 2] int4 and [experts, in / 128, out] -> e4m3 [experts, out, in] and its block scales."""
    experts = [
        quantize_fp8_block(dequantize_int4_group(*each)) for each in zip(packed, scale.transpose(1, 2), strict=True)
    ]
    values, scales = zip(*experts, strict=True)
    return torch.stack(values), torch.stack(scales)

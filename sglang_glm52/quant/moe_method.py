"""int4 routed experts on CUDA: the host's parameters, and the op `kernels/int4_experts` in place of its kernels.

By default each row has an activation scale of its own, so a result depends neither on the other rows of a batch nor on
how experts are split over ranks. With static scales (SGLANG_GLM52_ACTIVATION=static) the op quantises where the host's
chain of kernels does, with the same two numbers and the same saturation. It is not equal to that chain bit for bit: it
divides by a scale where the host multiplies by the reciprocal, keeps gate, up and down in float32 where the host writes
bf16 after each GEMM, and rounds silu(gate) * up to bf16 before it rounds to FP8. All of these are smaller than an FP8
step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from sglang.srt.layers.quantization.w4afp8 import W4AFp8MoEMethod

from sglang_glm52.kernels.int4_experts import int4_experts
from sglang_glm52.kernels.int4_experts.weights import ExpertWeights, StaticScales
from sglang_glm52.quant.layout import group_major

if TYPE_CHECKING:
    from sglang.srt.layers.moe.token_dispatcher import CombineInput, StandardDispatchOutput

_SCALES = ("w13_weight_scale_inv", "w2_weight_scale_inv")
_INPUT_SCALES = ("w13_input_scale", "w2_input_scale")


class Int4ExpertsMethod(W4AFp8MoEMethod):
    """The host's parameters, computed with by `int4_experts`; static input scales exist only where they are asked for.

    `quant_config.moe_activation_scheme` is "dynamic" or "static".
    """

    def create_weights(self, layer: torch.nn.Module, *args: object, **kwargs: object) -> None:
        super().create_weights(layer, *args, **kwargs)
        if not self._is_static:
            for name in _INPUT_SCALES:
                delattr(layer, name)

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """Bring the group scales into the kernels' order, one tensor after the other: the old one is free by then.

        The parameters show them in the checkpoint's order all the same: an update of the weights is loaded into the
        same memory, whose addresses CUDA graphs know, and nothing is left to do.
        A static scale is the largest of the layer's experts, which the loader has put in each of them on every rank.
        """
        if layer.w13_weight_scale_inv.dtype == torch.bfloat16:  # an update: they are created in float32
            return
        for name in _SCALES:
            scale = getattr(layer, name)
            scale.data = group_major(scale.data).transpose(1, 2)
        for name in _INPUT_SCALES if self._is_static else ():
            scale = getattr(layer, name)
            scale.data = scale.data.max().float().reshape(1)

    def apply(self, layer: torch.nn.Module, dispatch_output: StandardDispatchOutput) -> CombineInput:
        """Ids are those of this rank's experts, -1 for the others' (expert parallelism)."""
        from sglang.srt.layers.moe.token_dispatcher import StandardCombineInput

        topk_weights, topk_ids, _ = dispatch_output.topk_output
        out = int4_experts(
            dispatch_output.hidden_states.contiguous(),
            weights=expert_weights(layer),
            topk_weights=topk_weights,
            topk_ids=topk_ids,
            factor=self.moe_runner_config.routed_scaling_factor or 1.0,
            static=StaticScales(layer.w13_input_scale, layer.w2_input_scale) if self._is_static else None,
        )
        return StandardCombineInput(hidden_states=out)

    @property
    def _is_static(self) -> bool:
        return self.quant_config.moe_activation_scheme == "static"


def expert_weights(layer: torch.nn.Module) -> ExpertWeights:
    """A layer's parameters once `process_weights_after_loading` has run; nothing is copied."""
    scale13, scale2 = (getattr(layer, name).transpose(1, 2) for name in _SCALES)
    return ExpertWeights(layer.w13_weight, scale13, layer.w2_weight, scale2)

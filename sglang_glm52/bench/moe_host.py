"""SGLang's own W4AFP8 experts as it serves them: its quantisation method, whose static scales cover all tokens."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from sglang_glm52.bench.moe_layer import Call, Layer
from sglang_glm52.bench.moe_single_rank import set_up_single_rank
from sglang_glm52.formats.int4_group import GROUP
from sglang_glm52.kernels.int4_experts.cases import FACTOR, Inputs
from sglang_glm52.quant.layout import row_major


def prepare(layer: Layer) -> Call:
    from sglang.srt.layers.moe.moe_runner import MoeRunnerConfig
    from sglang.srt.layers.moe.token_dispatcher import StandardDispatchOutput
    from sglang.srt.layers.moe.topk import StandardTopKOutput
    from sglang.srt.layers.quantization.w4afp8 import W4AFp8MoEMethod

    set_up_single_rank()
    weights, method, module = layer.weights, W4AFp8MoEMethod(SimpleNamespace(group_size=GROUP)), torch.nn.Module()
    with weights.w2.device:
        method.create_weights(
            module, weights.num_experts, weights.hidden, weights.inner, torch.bfloat16, weight_loader=None
        )
    _fill(module, layer)
    method.process_weights_after_loading(module)
    method.create_moe_runner(module, MoeRunnerConfig(routed_scaling_factor=FACTOR))

    def call(inputs: Inputs) -> torch.Tensor:
        logits = inputs.topk_weights  # unread
        routing = StandardTopKOutput(inputs.topk_weights, inputs.topk_ids, logits)
        return method.apply(module, StandardDispatchOutput(inputs.x, None, routing)).hidden_states

    return call


def _fill(module: torch.nn.Module, layer: Layer) -> None:
    """Give the host's parameters the layer's tensors, without a copy of the packed weights."""
    weights = layer.weights
    module.w13_weight.data, module.w2_weight.data = weights.w13, weights.w2
    module.w13_weight_scale_inv.data = row_major(weights.scale13)
    module.w2_weight_scale_inv.data = row_major(weights.scale2)
    module.w13_input_scale.data = layer.static.x.expand(weights.num_experts, 2)
    module.w2_input_scale.data = layer.static.h.expand(weights.num_experts)

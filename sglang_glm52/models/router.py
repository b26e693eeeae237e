"""The router of GLM-5.2: logits in float32, and the choice of experts."""

from __future__ import annotations

from functools import partial

import torch
from sglang.srt.batch_invariant_ops import is_batch_invariant_mode_enabled
from sglang.srt.compilation.piecewise_context_manager import is_in_piecewise_cuda_graph
from sglang.srt.layers.moe.topk import TopK, TopKOutput
from sglang.srt.layers.quantization.base_config import QuantizationConfig
from sglang.srt.utils import is_cuda
from torch import nn

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.env import settings
from sglang_glm52.kernels.router.kernel import MAX_TOKENS, choose_experts, router_logits


class Glm52Router(nn.Module):
    """Router scores in float32, as the model was trained (`moe_router_dtype: float32`)."""

    def __init__(self, arch: Glm52Arch) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(arch.num_experts, arch.hidden_size), requires_grad=False)
        self.e_score_correction_bias = nn.Parameter(
            torch.empty(arch.num_experts, dtype=torch.float32), requires_grad=False
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[num_tokens, hidden] -> logits [num_tokens, num_experts] float32.

        On a GPU the operands stay bf16 and the product is accumulated and returned in float32: rounding the result
        to bf16 is what changes routings, not the bf16 inputs.
        """
        return logits_in_float32(x, self.weight)


class ExpertChoice(nn.Module):
    """The host's TopK, in which this package's kernel chooses for few tokens, and plain torch on a CPU."""

    def __init__(
        self,
        arch: Glm52Arch,
        layer_id: int,
        quant_config: QuantizationConfig | None,
        bias: torch.Tensor,
        experts: nn.Module,
    ) -> None:
        super().__init__()
        kwargs = {"top_k": arch.num_experts_per_token, "layer_id": layer_id, "renormalize": arch.norm_topk_prob}
        if not is_cuda():  # the host's CPU path compiles its routing with inductor: 40 s, and a C++ compiler
            self.few = self.many = TopK(custom_routing_function=partial(route, bias), **kwargs)
            return
        scales_weights = experts.should_fuse_routed_scaling_factor_in_topk
        self.many = TopK(
            use_grouped_topk=True,
            num_expert_group=arch.num_expert_groups,
            topk_group=arch.topk_group,
            correction_bias=bias,
            quant_config=quant_config,
            routed_scaling_factor=arch.routed_scaling_factor,
            apply_routed_scaling_factor_on_output=scales_weights,
            **kwargs,
        )
        self.few = self.many if scales_weights else TopK(custom_routing_function=partial(choose, bias), **kwargs)

    def forward(self, hidden_states: torch.Tensor, logits: torch.Tensor) -> TopKOutput:
        """For [num_tokens, hidden] and [num_tokens, num_experts] float32."""
        return (self.few if is_fused(hidden_states) else self.many)(hidden_states, logits)

    def empty(self, device: torch.device) -> TopKOutput:
        """For no token."""
        return self.many.empty_topk_output(device)


def logits_in_float32(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """[num_tokens, inputs] and [outputs, inputs] -> [num_tokens, outputs] float32, on a GPU of bf16 numbers."""
    if is_fused(x):
        return router_logits(x, weight)
    if x.is_cuda:
        return torch.mm(x, weight.t(), out_dtype=torch.float32)
    return torch.mm(x.float(), weight.float().t())


def is_fused(x: torch.Tensor) -> bool:
    """Whether `kernels/router` routes tokens [num_tokens, hidden]; a piecewise graph is traced past the question."""
    if is_in_piecewise_cuda_graph() or settings().router != "fused" or not x.is_cuda:
        return False
    is_few = 0 < x.shape[0] <= MAX_TOKENS and not is_batch_invariant_mode_enabled()
    return is_few and x.dtype == torch.bfloat16 and x.is_contiguous() and x.data_ptr() % 16 == 0


def choose(
    bias: torch.Tensor, hidden_states: torch.Tensor, gating_output: torch.Tensor, topk: int, renormalize: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """`route` on a GPU."""
    return choose_experts(gating_output, bias, topk, renormalize=renormalize)


def route(
    bias: torch.Tensor, hidden_states: torch.Tensor, gating_output: torch.Tensor, topk: int, renormalize: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose experts by sigmoid score plus correction bias, weigh them by the score alone ("noaux_tc", one group).

    Args:
        bias: [num_experts] float32. gating_output: router logits [num_tokens, num_experts] float32.

    Returns:
        Weights [num_tokens, topk] float32 and expert ids [num_tokens, topk] int32.
    """
    scores = gating_output.float().sigmoid()
    ids = (scores + bias).topk(topk, dim=-1).indices
    weights = scores.gather(1, ids)
    if renormalize:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return weights, ids.to(torch.int32)

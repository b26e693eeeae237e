"""Feed-forward blocks of GLM-5.2: the dense MLP and the mixture of experts."""

from __future__ import annotations

import torch
from sglang.srt.distributed import (
    get_tensor_model_parallel_world_size,
    tensor_model_parallel_all_reduce,
)
from sglang.srt.layers.activation import SiluAndMul
from sglang.srt.layers.linear import MergedColumnParallelLinear, RowParallelLinear
from sglang.srt.layers.moe import get_moe_a2a_backend, should_skip_post_experts_all_reduce
from sglang.srt.layers.moe.ep_moe.layer import get_moe_impl_class
from sglang.srt.layers.moe.topk import TopKOutput
from sglang.srt.layers.moe.utils import RoutingMethodType
from sglang.srt.layers.quantization.base_config import QuantizationConfig
from sglang.srt.model_executor.cuda_graph_runner import get_is_capture_mode
from sglang.srt.utils import add_prefix, is_cuda
from torch import nn

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.errors import ConfigError
from sglang_glm52.models.router import ExpertChoice, Glm52Router


class Glm52MLP(nn.Module):
    """SiLU-gated MLP, `down(silu(gate(x)) * up(x))`; dense layers and the shared expert."""

    def __init__(
        self,
        hidden_size: int,
        intermediate_size: int,
        quant_config: QuantizationConfig | None,
        prefix: str,
        *,
        reduce_results: bool = True,
        tp_rank: int | None = None,
        tp_size: int | None = None,
    ) -> None:
        super().__init__()
        shared = {"bias": False, "quant_config": quant_config, "tp_rank": tp_rank, "tp_size": tp_size}
        self.gate_up_proj = MergedColumnParallelLinear(
            hidden_size, [intermediate_size] * 2, prefix=add_prefix("gate_up_proj", prefix), **shared
        )
        self.down_proj = RowParallelLinear(
            intermediate_size,
            hidden_size,
            reduce_results=reduce_results,
            prefix=add_prefix("down_proj", prefix),
            **shared,
        )
        self.act = SiluAndMul()

    def forward(self, x: torch.Tensor, *, skip_all_reduce: bool = False) -> torch.Tensor:
        """[num_tokens, hidden] -> [num_tokens, hidden]; a partial sum where the caller reduces later."""
        if x.shape[0] == 0:
            return x
        gate_up, _ = self.gate_up_proj(x)
        out, _ = self.down_proj(self.act(gate_up), skip_all_reduce=skip_all_reduce)
        return out


def _experts_class(quant_config: QuantizationConfig | None) -> type[nn.Module]:
    if is_cuda():
        return get_moe_impl_class(quant_config)
    from sglang_glm52.models.cpu_experts import CpuExperts

    return CpuExperts


class Glm52MoE(nn.Module):
    """`num_experts_per_token` routed experts, weighted by renormalised sigmoid scores, plus one shared expert."""

    def __init__(
        self,
        arch: Glm52Arch,
        layer_id: int,
        quant_config: QuantizationConfig | None,
        prefix: str,
        alt_stream: torch.cuda.Stream | None,
    ) -> None:
        super().__init__()
        if not get_moe_a2a_backend().is_none():
            raise ConfigError(
                f"--moe-a2a-backend {get_moe_a2a_backend().value} is not supported for GLM-5.2; use none (the default)"
            )
        self.tp_size = get_tensor_model_parallel_world_size()
        self.alt_stream = alt_stream
        self.gate = Glm52Router(arch)
        self.experts = _experts_class(quant_config)(
            num_experts=arch.num_experts,
            top_k=arch.num_experts_per_token,
            hidden_size=arch.hidden_size,
            intermediate_size=arch.moe_intermediate_size,
            layer_id=layer_id,
            quant_config=quant_config,
            routed_scaling_factor=arch.routed_scaling_factor,
            routing_method_type=RoutingMethodType.DeepSeekV3,
            inplace=False,  # the shared expert reads the same input on another stream
            prefix=add_prefix("experts", prefix),
        )
        self.choice = ExpertChoice(arch, layer_id, quant_config, self.gate.e_score_correction_bias, self.experts)
        self.shared_experts = Glm52MLP(
            arch.hidden_size,
            arch.moe_intermediate_size * arch.num_shared_experts,
            quant_config,
            add_prefix("shared_experts", prefix),
            reduce_results=False,
        )
        # The host's CUDA kernels multiply by the scaling factor, its native CPU path leaves that to the model.
        self.scale_after_experts = 1.0 if is_cuda() else arch.routed_scaling_factor

    def forward(
        self, hidden_states: torch.Tensor, *, should_allreduce_fusion: bool, use_reduce_scatter: bool
    ) -> torch.Tensor:
        """[num_tokens, hidden] -> [num_tokens, hidden], reduced over TP unless the caller fuses that."""
        if hidden_states.shape[0] == 0:
            out = self.experts(hidden_states, self.choice.empty(hidden_states.device))
        elif self._overlaps():
            out = self._forward_overlapped(hidden_states)
        else:
            out = self._forward_routed(hidden_states).add_(self.shared_experts(hidden_states))
        if self.tp_size > 1 and not should_skip_post_experts_all_reduce(
            is_tp_path=True, use_reduce_scatter=use_reduce_scatter, should_allreduce_fusion=should_allreduce_fusion
        ):
            out = tensor_model_parallel_all_reduce(out)
        return out

    def _overlaps(self) -> bool:
        return self.alt_stream is not None and get_is_capture_mode()

    def _route(self, hidden_states: torch.Tensor) -> TopKOutput:
        return self.choice(hidden_states, self.gate(hidden_states))

    def _forward_routed(self, hidden_states: torch.Tensor) -> torch.Tensor:
        out = self.experts(hidden_states, self._route(hidden_states))
        return out if self.scale_after_experts == 1.0 else out.mul_(self.scale_after_experts)

    def _forward_overlapped(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Shared expert beside the routed ones, which take longer: two branches of the captured CUDA graph."""
        main = torch.cuda.current_stream()
        self.alt_stream.wait_stream(main)
        with torch.cuda.stream(self.alt_stream):
            shared = self.shared_experts(hidden_states)
        out = self._forward_routed(hidden_states)
        main.wait_stream(self.alt_stream)
        return out.add_(shared)

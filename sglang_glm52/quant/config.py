"""The W4AFP8 quantisation of one checkpoint, as its config.json states it.

The host's own class takes group size and activation scheme for granted and drops the list of unquantised modules. It
stays in the host's registry, where other models look it up; a GLM-5.2 model replaces it by this one when it is built.
"""

from __future__ import annotations

import torch
from sglang.srt.layers.linear import LinearBase
from sglang.srt.layers.moe.fused_moe_triton import FusedMoE
from sglang.srt.layers.quantization.base_config import QuantizationConfig, QuantizeMethodBase
from sglang.srt.layers.quantization.fp8 import Fp8LinearMethod
from sglang.srt.layers.quantization.unquant import UnquantizedLinearMethod
from sglang.srt.layers.quantization.utils import is_layer_skipped
from sglang.srt.layers.quantization.w4afp8 import W4AFp8Config

from sglang_glm52.arch_quant import QuantSection
from sglang_glm52.env import settings
from sglang_glm52.quant.moe_method import Int4ExpertsMethod


class Glm52W4AFP8Config(W4AFp8Config):
    """int4 routed experts; every other linear layer FP8 in blocks, or unquantised where the checkpoint says so."""

    def __init__(self, section: QuantSection) -> None:
        super().__init__(
            ignored_layers=list(section.modules_to_not_convert),
            weight_block_size=list(section.weight_block_size),
            group_size=section.group_size,
            moe_activation_scheme=settings().activation,
        )

    def get_quant_method(self, layer: torch.nn.Module, prefix: str) -> QuantizeMethodBase | None:
        if isinstance(layer, FusedMoE):
            return Int4ExpertsMethod(self)
        if isinstance(layer, LinearBase):
            skipped = is_layer_skipped(prefix, self.ignored_layers)
            return UnquantizedLinearMethod() if skipped else Fp8LinearMethod(self)
        return None


def quant_config_for(section: QuantSection | None, hosts: QuantizationConfig | None) -> QuantizationConfig | None:
    """The configuration to build layers with: the host's, but for a W4AFP8 checkpoint that runs quantised."""
    if section is None or section.method != "w4afp8" or hosts is None:
        return hosts
    return Glm52W4AFP8Config(section)

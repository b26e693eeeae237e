"""SGLang's Marlin MoE: int4 weights multiplied in bf16, activations not quantised. The weights are repacked once.

SGLang compiles it when it is first called: 180 kernels in one file, more than four minutes of nvcc. The result is kept
in ~/.cache/tvm-ffi.
"""

from __future__ import annotations

import torch

from sglang_glm52.bench.moe_layer import Call, Layer
from sglang_glm52.formats.int4_group import GROUP
from sglang_glm52.kernels.int4_experts.cases import Inputs

_OFFSET = -0x78  # flips the top bit of both nibbles: two's complement q becomes q + 8, as Marlin's uint4b8 has it
_NIBBLES = 8  # of an int32


def prepare(layer: Layer) -> Call:
    from sglang.srt.layers.moe.fused_moe_triton.fused_marlin_moe import fused_marlin_moe
    from sglang.srt.layers.quantization.marlin_utils import marlin_make_workspace

    weights = layer.weights
    w13, scale13 = _repacked(weights.w13, weights.scale13)
    w2, scale2 = _repacked(weights.w2, weights.scale2)
    workspace = marlin_make_workspace(weights.w2.device, max_blocks_per_sm=4)

    def call(inputs: Inputs) -> torch.Tensor:
        return fused_marlin_moe(
            inputs.x,
            w13,
            w2,
            scale13,
            scale2,
            inputs.topk_weights,  # in place of the router's logits, of which only the length is read
            inputs.topk_weights,
            inputs.topk_ids,
            workspace=workspace,
            num_bits=4,
            routed_scaling_factor=inputs.factor,
        )

    return call


def offset_words(packed: torch.Tensor) -> torch.Tensor:
    """[..., out, in / 2] int8, two's complement -> [..., out, in / 8] int32 of q + 8; input 8i in the lowest nibble."""
    return (packed ^ _OFFSET).view(torch.int32)


def _repacked(packed: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[experts, out, in / 2] int8 and [experts, in / 128, out] -> both in the order Marlin reads."""
    from sglang.srt.hardware_backend.gpu.quantization.gptq_kernels import gptq_marlin_moe_repack
    from sglang.srt.layers.quantization.marlin_utils import marlin_moe_permute_scales

    words = offset_words(packed).transpose(1, 2).contiguous()  # [experts, in / 8, out], as GPTQ packs
    experts, size_k, size_n = words.shape[0], words.shape[1] * _NIBBLES, words.shape[2]
    unsorted = torch.empty((experts, 0), dtype=torch.int32, device=words.device)  # inputs keep their order
    repacked = gptq_marlin_moe_repack(words, unsorted, size_k, size_n, 4)
    return repacked, marlin_moe_permute_scales(scale, size_k, size_n, GROUP)

"""Compute FP8 linear layers of a few tokens with this package's kernel.

The host assumes that a layer with FP8 blocks is two kernels, one that rounds the inputs and DeepGEMM's product, which
is made for many tokens: with one to sixteen, a product takes 8.4 us where reading the weights takes 0.4 to 4.
`kernels/fp8_linear` does both in one launch. Read in 0.5.13.post1 (`layers/quantization/fp8.py`,
`Fp8LinearMethod.apply`; `fp8_utils.py`, `deepgemm_w8a8_block_fp8_linear_with_fallback`). Without the hook, or with
SGLANG_GLM52_FP8_LINEAR=host, results are the same but for the order of sums.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from sglang.srt.compilation.piecewise_context_manager import is_in_piecewise_cuda_graph
from sglang.srt.layers.quantization.fp8 import Fp8LinearMethod
from sglang.srt.layers.quantization.fp8_utils import deepgemm_w8a8_block_fp8_linear_with_fallback

from sglang_glm52.env import settings
from sglang_glm52.formats.fp8_block import BLOCK
from sglang_glm52.host.served_model import serves_glm52
from sglang_glm52.kernels.fp8_linear.kernel import MAX_TOKENS, ROWS, fp8_linear


def apply_fused(
    original: Callable[..., torch.Tensor],
    self: Fp8LinearMethod,
    layer: torch.nn.Module,
    x: torch.Tensor | tuple[torch.Tensor, torch.Tensor],
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """AROUND `Fp8LinearMethod.apply`; `x` is a tuple where the caller has rounded it already."""
    # Asked first: a piecewise graph is traced, which goes no further here, and for any number of tokens.
    if is_in_piecewise_cuda_graph() or settings().fp8_linear != "fused" or bias is not None:
        return original(self, layer, x, bias)
    if _takes(self, layer, x):
        return fp8_linear(x, layer.weight, layer.weight_scale_inv)
    return original(self, layer, x, bias)


def _takes(method: Fp8LinearMethod, layer: torch.nn.Module, x: torch.Tensor | tuple) -> bool:
    if not isinstance(x, torch.Tensor) or x.dim() != 2:
        return False
    if not 0 < x.shape[0] <= MAX_TOKENS or x.dtype != torch.bfloat16 or not x.is_contiguous() or x.data_ptr() % 16:
        return False
    if method.w8a8_block_fp8_linear is not deepgemm_w8a8_block_fp8_linear_with_fallback:
        return False  # another backend was asked for, or the scales have another form
    outputs, inputs = layer.weight.shape
    has_blocks = list(method.quant_config.weight_block_size or ()) == [BLOCK, BLOCK]
    fits = has_blocks and outputs % ROWS == 0 and inputs % BLOCK == 0 and layer.weight_scale_inv.dtype == torch.float32
    return fits and serves_glm52()

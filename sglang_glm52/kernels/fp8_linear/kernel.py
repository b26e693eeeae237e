"""A linear layer with FP8 blocks of weights for a few tokens: rounding the inputs and the product, in one launch.

reference: ref.py  cases: cases.py  benchmark: bench.py  tests: tests/kernels/test_fp8_linear.py
path: fused.py (CUDA C++)  its sizes: tuning.py
"""

from __future__ import annotations

import torch

from sglang_glm52.formats.fp8_block import BLOCK

MAX_TOKENS = 16
ROWS = 16  # of weights in one product: outputs come in such tiles


def fp8_linear(x: torch.Tensor, weight: torch.Tensor, weight_scale: torch.Tensor) -> torch.Tensor:
    """fp8(x) @ weight^T, where fp8 rounds each token's groups of 128 inputs to e4m3, as the host's quantiser does.

    Products of 128 inputs are summed, scaled and added up in float32, in an order that depends on shapes alone: equal
    arguments give equal bits. Nothing waits for the device, so a CUDA graph can hold the call. Weights and scales are
    read before the kernels queued ahead have ended: none of those may write them.

    Args:
        x: [num_tokens, inputs] bf16 on a GPU, at most MAX_TOKENS, contiguous.
        weight: [outputs, inputs] float8_e4m3fn, contiguous, outputs a multiple of 16 and inputs of 128.
        weight_scale: [ceil(outputs / 128), inputs / 128] float32, contiguous.

    Returns:
        A new [num_tokens, outputs] bf16.

    Raises:
        ValueError: shapes, dtypes, strides or devices are not as described.
    """
    from sglang_glm52.kernels.fp8_linear.fused import fp8_linear_fused  # with it come CUDA's bindings

    return fp8_linear_fused(x, weight, weight_scale)


def check_inputs(x: torch.Tensor, weight: torch.Tensor, weight_scale: torch.Tensor) -> None:
    """Raise ValueError, naming the tensor, unless all are as `fp8_linear` describes them. Reads no values."""
    if weight.dim() != 2 or weight.dtype != torch.float8_e4m3fn:
        raise ValueError(f"weight is {weight.dtype} {tuple(weight.shape)}; expected float8_e4m3fn [outputs, inputs]")
    outputs, inputs = weight.shape
    if outputs % ROWS or inputs % BLOCK:
        raise ValueError(f"weight is {outputs} x {inputs}; expected multiples of {ROWS} and {BLOCK}")
    if x.dim() != 2 or x.shape[1] != inputs or x.dtype != torch.bfloat16:
        raise ValueError(f"x is {x.dtype} {tuple(x.shape)}; expected {torch.bfloat16} [num_tokens, {inputs}]")
    if x.shape[0] > MAX_TOKENS:
        raise ValueError(f"x has {x.shape[0]} tokens; expected at most {MAX_TOKENS}")
    scales = (-(-outputs // BLOCK), inputs // BLOCK)
    if tuple(weight_scale.shape) != scales or weight_scale.dtype != torch.float32:
        raise ValueError(f"weight_scale is {weight_scale.dtype} {tuple(weight_scale.shape)}; expected float32 {scales}")
    if not x.is_cuda:
        raise ValueError(f"x is on {x.device}; expected a GPU (ref.py runs on a CPU)")
    for name, each in {"x": x, "weight": weight, "weight_scale": weight_scale}.items():
        if each.device != x.device:
            raise ValueError(f"{name} is on {each.device}; expected {x.device}, where x is")
        if not each.is_contiguous():
            raise ValueError(f"{name} has strides {each.stride()}; expected a contiguous tensor")
        if name != "weight_scale" and each.data_ptr() % 16:
            raise ValueError(f"{name} does not start at a multiple of 16 bytes; copy it into a tensor of its own")

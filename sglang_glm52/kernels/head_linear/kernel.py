"""Each head's numbers times a matrix of its own: what attention found in latents, to values. One launch.

reference: ref.py  cases: cases.py  benchmark: bench.py  tests: tests/kernels/test_head_linear.py
path: fused.py (CUDA C++)
"""

from __future__ import annotations

import torch

MAX_TOKENS = 16
ROWS = 16  # of weights in one product: outputs come in such tiles
CHUNK = 32  # inputs of two products
MAX_INPUTS = 512  # whose weights a warp holds in registers


def head_linear(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """x[:, h] @ weight[h]^T for each head h.

    Up to MAX_TOKENS one launch, whose float32 sums have an order that depends on `inputs` alone; more tokens are left
    to cuBLAS. Nothing waits for the device, so a CUDA graph can hold the call. Weights are read before the kernels
    queued ahead have ended: none of those may write them.

    Args:
        x: [num_tokens, num_heads, inputs] bf16 on a GPU, contiguous.
        weight: [num_heads, outputs, inputs] bf16, contiguous, outputs a multiple of 16, inputs one of 32 and at most
            MAX_INPUTS.

    Returns:
        A new [num_tokens, num_heads, outputs] bf16.

    Raises:
        ValueError: shapes, dtypes, strides or devices are not as described.
    """
    from sglang_glm52.kernels.head_linear.fused import head_linear_fused  # with it come CUDA's bindings

    return head_linear_fused(x, weight)


def check_inputs(x: torch.Tensor, weight: torch.Tensor) -> None:
    """Raise ValueError, naming the tensor, unless both are as `head_linear` describes them. Reads no values."""
    if weight.dim() != 3 or weight.dtype != torch.bfloat16:
        raise ValueError(
            f"weight is {weight.dtype} {tuple(weight.shape)}; expected {torch.bfloat16} [heads, outputs, inputs]"
        )
    heads, outputs, inputs = weight.shape
    if outputs % ROWS or inputs % CHUNK or not 0 < inputs <= MAX_INPUTS:
        raise ValueError(
            f"weight has {outputs} x {inputs} numbers a head; expected multiples of {ROWS} and {CHUNK}, at most "
            f"{MAX_INPUTS} inputs"
        )
    if x.dim() != 3 or tuple(x.shape[1:]) != (heads, inputs) or x.dtype != torch.bfloat16:
        raise ValueError(f"x is {x.dtype} {tuple(x.shape)}; expected {torch.bfloat16} (num_tokens, {heads}, {inputs})")
    for name, each in {"x": x, "weight": weight}.items():
        if not x.is_cuda or each.device != x.device:
            raise ValueError(f"{name} is on {each.device}; expected one GPU for both (ref.py runs on a CPU)")
        if not each.is_contiguous() or each.data_ptr() % 16:
            raise ValueError(
                f"{name} has strides {each.stride()}; expected a contiguous tensor from a multiple of 16 bytes"
            )

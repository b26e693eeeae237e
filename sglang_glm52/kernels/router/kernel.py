"""Which experts a token goes to: logits in float32, and the choice by sigmoid score plus correction bias. Two launches.

reference: ref.py  cases: cases.py  benchmark: bench.py  tests: tests/kernels/test_router.py
path: fused.py (CUDA C++)

Nothing waits for the device, and shapes depend on no value, so a CUDA graph can hold the calls. Weights and biases are
read before the kernels queued ahead have ended: none of those may write them.
"""

from __future__ import annotations

import torch

MAX_TOKENS = 32  # of `router_logits`: cuBLAS is as fast then; the choice takes any number
PER_LOAD = 8  # bf16 numbers that a thread loads at once
MAX_EXPERTS, MAX_TOPK = 1024, 32


def router_logits(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """x @ weight^T, the products of bf16 numbers summed in float32 in an order that depends on `hidden` alone.

    An indexer's head weights are such numbers too.

    Args:
        x: [num_tokens, hidden] bf16 on a GPU, at most MAX_TOKENS, contiguous, `hidden` a multiple of 8.
        weight: [num_experts, hidden] bf16, contiguous.

    Returns:
        A new [num_tokens, num_experts] float32.

    Raises:
        ValueError: shapes, dtypes, strides or devices are not as described.
    """
    from sglang_glm52.kernels.router.fused import router_logits_fused  # with it come CUDA's bindings

    return router_logits_fused(x, weight)


def choose_experts(
    logits: torch.Tensor, bias: torch.Tensor, topk: int, *, renormalize: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The `topk` experts of largest sigmoid(logit) + bias, weighed by the sigmoid alone ("noaux_tc", one group).

    Args:
        logits: [num_tokens, num_experts] float32 on a GPU, contiguous, at most MAX_EXPERTS.
        bias: [num_experts] float32.
        topk: MAX_TOPK at most.
        renormalize: divide a token's weights by their sum.

    Returns:
        New weights [num_tokens, topk] float32 and experts [num_tokens, topk] int32, the best first; of equal ones the
        first.

    Raises:
        ValueError: shapes, dtypes, strides or devices are not as described.
    """
    from sglang_glm52.kernels.router.fused import choose_experts_fused

    return choose_experts_fused(logits, bias, topk, renormalize=renormalize)


def router(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, topk: int, *, renormalize: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """`choose_experts` of `router_logits`; arguments, results and errors are described there."""
    from sglang_glm52.kernels.router.fused import router_fused

    return router_fused(x, weight, bias, topk, renormalize=renormalize)


def check_logits(x: torch.Tensor, weight: torch.Tensor) -> None:
    """Raise ValueError, naming the tensor, unless both are as `router_logits` describes them. Reads no values."""
    if x.dim() != 2 or x.dtype != torch.bfloat16 or x.shape[0] > MAX_TOKENS or x.shape[1] % PER_LOAD:
        raise ValueError(
            f"x is {x.dtype} {tuple(x.shape)}; expected {torch.bfloat16} [num_tokens, hidden], at most {MAX_TOKENS} "
            f"tokens and `hidden` a multiple of {PER_LOAD}"
        )
    _check("weight", weight, torch.bfloat16, (weight.shape[0], x.shape[1]), x)
    _check("x", x, torch.bfloat16, tuple(x.shape), x)


def check_choice(logits: torch.Tensor, bias: torch.Tensor, topk: int) -> None:
    """Raise ValueError, naming the argument, unless all are as `choose_experts` describes them. Reads no values."""
    if logits.dim() != 2 or not 0 < logits.shape[1] <= MAX_EXPERTS:
        raise ValueError(f"logits has shape {tuple(logits.shape)}; expected [num_tokens, 1 to {MAX_EXPERTS}]")
    if not 0 < topk <= min(MAX_TOPK, logits.shape[1]):
        raise ValueError(f"topk is {topk}; expected 1 to {min(MAX_TOPK, logits.shape[1])}")
    _check("logits", logits, torch.float32, tuple(logits.shape), logits)
    _check("bias", bias, torch.float32, (logits.shape[1],), logits)


def _check(name: str, tensor: torch.Tensor, dtype: torch.dtype, shape: tuple[int, ...], like: torch.Tensor) -> None:
    if tensor.dtype != dtype or tuple(tensor.shape) != shape:
        raise ValueError(f"{name} is {tensor.dtype} {tuple(tensor.shape)}; expected {dtype} {shape}")
    if not like.is_cuda or tensor.device != like.device:
        raise ValueError(f"{name} is on {tensor.device}; expected one GPU for all (ref.py runs on a CPU)")
    if not tensor.is_contiguous() or tensor.data_ptr() % 16:
        raise ValueError(
            f"{name} has strides {tensor.stride()}; expected a contiguous tensor from a multiple of 16 bytes"
        )

"""The routed experts of one layer: int4 weights, FP8 activations, one call for any number of tokens.

reference: ref.py  cases: cases.py  benchmark: bench.py  tests: tests/kernels/test_int4_experts.py
paths: decode.py (CUDA C++, few tokens), grouped.py (Triton and CUDA C++, many)  which of them: table.py
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from sglang_glm52.kernels.int4_experts.table import first_grouped
from sglang_glm52.kernels.int4_experts.weights import ExpertWeights, StaticScales

Path = Callable[..., torch.Tensor]


def decode_path() -> Path:
    """Imported when first used, like the other path: a compiler's bindings come with it."""
    from sglang_glm52.kernels.int4_experts.decode import int4_experts_decode

    return int4_experts_decode


def grouped_path() -> Path:
    from sglang_glm52.kernels.int4_experts.grouped import int4_experts_grouped

    return int4_experts_grouped


def choose_path(num_tokens: int, inner: int, device: str) -> Path:
    """The faster one for so many tokens and experts of width `inner` on a device of that name."""
    return grouped_path() if num_tokens >= first_grouped(device, inner) else decode_path()


def int4_experts(
    x: torch.Tensor,
    *,
    weights: ExpertWeights,
    topk_weights: torch.Tensor,
    topk_ids: torch.Tensor,
    factor: float,
    static: StaticScales | None = None,
) -> torch.Tensor:
    """factor * sum over a token's slots of topk_weight * w2 @ fp8(silu(gate) * up), where (gate, up) = w13 @ fp8(x).

    Activations are rounded to e4m3 twice, x and the bf16 silu(gate) * up, each row with its own scale (largest absolute
    value / 448) or with `static`. Products are summed in float32, in an order that depends on shapes alone: equal
    arguments give equal bits. Nothing waits for the device, so a CUDA graph can hold the call.

    Args:
        x: [num_tokens, hidden] bf16, contiguous.
        topk_weights: [num_tokens, topk] float32.
        topk_ids: [num_tokens, topk] int32, numbered on this rank; negative for an expert of another rank, whose slot
            contributes nothing.

    Returns:
        A new [num_tokens, hidden] bf16; zero in rows without an expert here.

    Raises:
        ValueError: shapes, dtypes, strides or devices are not as described.
    """
    check_inputs(x, weights, topk_weights, topk_ids, static)
    num_tokens = x.shape[0]
    if num_tokens == 0:
        return torch.empty_like(x)
    path = choose_path(num_tokens, weights.inner, torch.cuda.get_device_name(x.device))
    return path(x, weights=weights, topk_weights=topk_weights, topk_ids=topk_ids, factor=factor, static=static)


def check_inputs(
    x: torch.Tensor,
    weights: ExpertWeights,
    topk_weights: torch.Tensor,
    topk_ids: torch.Tensor,
    static: StaticScales | None = None,
) -> None:
    """Raise ValueError, naming the tensor, unless all are as `int4_experts` describes them. Reads no values."""
    if topk_ids.dim() != 2:
        raise ValueError(f"topk_ids has shape {tuple(topk_ids.shape)}; expected [num_tokens, topk]")
    slots = tuple(topk_ids.shape)
    expected = {
        "x": (x, (slots[0], weights.hidden), torch.bfloat16),
        "topk_weights": (topk_weights, slots, torch.float32),
        "topk_ids": (topk_ids, slots, torch.int32),
    }
    for name, (tensor, shape, dtype) in expected.items():
        if tuple(tensor.shape) != shape or tensor.dtype != dtype:
            raise ValueError(f"{name} is {tensor.dtype} {tuple(tensor.shape)}; expected {dtype} {shape}")
        if not tensor.is_contiguous():
            raise ValueError(f"{name} has strides {tensor.stride()}; expected a contiguous tensor of shape {shape}")
    on = {name: tensor.device for name, (tensor, _, _) in expected.items()}
    on |= {"static.x": static.x.device, "static.h": static.h.device} if static else {}
    for name, device in on.items():
        if device != weights.w2.device:
            raise ValueError(f"{name} is on {device}; expected {weights.w2.device}, where the weights are")

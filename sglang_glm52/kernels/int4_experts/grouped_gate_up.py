"""The grouped path's gate and up projection for many tokens, in CUDA C++ for Hopper (cuda/grouped_gate_up.cu).

Weights go from shared memory through registers, where they are decoded, to the tensor cores. Each is read once, as a
tile holds all or most of an expert's places.
"""

from __future__ import annotations

from pathlib import Path

import torch

from sglang_glm52.formats.int4_group import GROUP
from sglang_glm52.kernels.cuda_source import load, num_multiprocessors
from sglang_glm52.kernels.int4_experts.grouped_order import Order
from sglang_glm52.kernels.int4_experts.grouped_quantize import Fp8Rows
from sglang_glm52.kernels.int4_experts.weights import ExpertWeights

SOURCE = Path(__file__).with_name("cuda") / "grouped_gate_up.cu"
# Smallest number of tokens -> places of an expert in a tile; GLM-5.2's experts have a 32nd of the tokens on average. As
# few places as hold nearly every expert's are best, for more stages then fit. Timed with 1024, 4096 and 8192 tokens on
# H200, where Triton's kernel takes 1.06, 1.36 and 1.25 times as long.
PLACES = {1024: 144, 3584: 160}
MOST_INNER = 512  # the widest experts that it was held to float64 with
THREADS = 384
_SHARED_BYTES = 225 * 1024  # of the 227 KB of a Hopper block; what the kernel declares statically comes on top


def places_for(num_tokens: int, inner: int) -> int | None:
    """Places of a tile, or None: Triton's kernel is to be used."""
    starts = [start for start in PLACES if start <= num_tokens]
    return PLACES[max(starts)] if starts and inner <= MOST_INNER else None


def gate_up(tokens: Fp8Rows, weights: ExpertWeights, order: Order, topk: int, places: int) -> torch.Tensor:
    """silu(gate) * up, [num_slots, inner] bf16 in the order of the places.

    The first call with weights of a shape compiles or loads the kernel: make it before a CUDA graph is captured.
    """
    h = tokens.values.new_empty(order.slot_of_place.numel(), weights.inner, dtype=torch.bfloat16)
    stages, shared_bytes = shared_memory(places, weights.num_experts)
    constants = macros(weights.hidden, weights.inner, topk, tokens.bias.shape[1], places, stages)
    arguments = (*tokens, weights.w13, weights.scale13, order.slot_of_place, order.starts, weights.num_experts, h)
    kernel = load(SOURCE, ("grouped_gate_up",), constants, h.device)["grouped_gate_up"]
    stream = torch.cuda.current_stream(h.device).cuda_stream
    kernel.launch((num_multiprocessors(h.device), 1), THREADS, shared_bytes, arguments, stream=stream)
    return h


def shared_memory(places: int, num_experts: int) -> tuple[int, int]:
    """Stages that fit, and the bytes of all."""
    # FP8 values, 128 rows of weights and their scales, token scales, two barriers.
    stage = places * GROUP + 128 * GROUP // 2 + 128 * 2 + places * 4 + 2 * 8
    rest = 1024 + 8 * (num_experts + 1)  # to align the stages, and two ints for each expert
    stages = (_SHARED_BYTES - rest) // stage
    return stages, stages * stage + rest


def macros(hidden: int, inner: int, topk: int, bias: int, places: int, stages: int) -> tuple[tuple[str, int], ...]:
    """What the kernel is compiled with."""
    sizes = {"HIDDEN": hidden, "INNER": inner, "TOPK": topk, "BIAS": bias, "PLACES": places, "STAGES": stages}
    return tuple(sizes.items())

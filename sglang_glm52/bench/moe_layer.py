"""What `glm52 bench moe` gives every contender: the experts of one layer, and calls to make with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from sglang_glm52.formats.fp8_block import E4M3_MAX
from sglang_glm52.kernels.int4_experts.cases import Case, Inputs, make_inputs, make_weights
from sglang_glm52.kernels.int4_experts.weights import ExpertWeights, StaticScales

HIDDEN, EXPERTS, TOPK = 6144, 256, 8
# What one scale for all tokens must reach: inputs are normal, and silu(gate) * up of two normal numbers seldom passes
# 25. Too wide a scale costs FP8 nothing, its steps being relative.
LARGEST_X, LARGEST_H = 6.0, 25.0

Call = Callable[[Inputs], torch.Tensor]  # -> [num_tokens, hidden] bf16


@dataclass(frozen=True, slots=True)
class Layer:
    """One set of weights on the device."""

    weights: ExpertWeights
    static: StaticScales  # for a contender that scales all tokens alike


def case_of(tokens: int, inner: int, routing: str) -> Case:
    return Case(tokens, HIDDEN, inner, EXPERTS, TOPK, "bench", routing=routing, timed=True)


def make_layers(count: int, inner: int, device: str) -> list[Layer]:
    """`count` different sets of weights, for rotation: a set read again must not come from the L2 cache."""
    static = StaticScales(*torch.tensor([[LARGEST_X], [LARGEST_H]], device=device).div(E4M3_MAX))
    case = case_of(1, inner, "uniform")
    return [Layer(make_weights(case, seed=seed, device=device), static) for seed in range(count)]


def make_routings(count: int, case: Case, device: str) -> list[Inputs]:
    """`count` different inputs of one shape."""
    return [make_inputs(case, seed=1000 + seed, device=device) for seed in range(count)]


def first_rows(inputs: Inputs, rows: int) -> Inputs:
    """The same call with the first tokens alone; a token's result does not depend on the others."""
    return replace(inputs, x=inputs.x[:rows], topk_weights=inputs.topk_weights[:rows], topk_ids=inputs.topk_ids[:rows])

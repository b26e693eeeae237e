"""Shapes and made-up tensors that the tests and the bench share."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Case:
    """One call of the op."""

    num_tokens: int
    num_heads: int
    outputs: int
    inputs: int
    why: str
    timed: bool = False

    def __str__(self) -> str:
        return f"m{self.num_tokens}-h{self.num_heads}-{self.outputs}x{self.inputs}"


SMALL = (
    Case(0, 2, 16, 32, "no token"),
    Case(1, 1, 16, 32, "one tile, one chunk"),
    Case(3, 5, 48, 96, "odd numbers of heads, tiles and chunks"),
    Case(8, 2, 32, 512, "a full tile of tokens"),
    Case(9, 3, 80, 256, "one token in the second tile"),
    Case(16, 16, 256, 512, "two full tiles, GLM-5.2 under TP 4"),
)
GLM52 = tuple(Case(num_tokens, 8, 256, 512, "GLM-5.2 under TP 8", timed=True) for num_tokens in (1, 2, 4, 8, 16))
CASES = (*SMALL, *GLM52)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Arguments of one call."""

    x: torch.Tensor  # [num_tokens, num_heads, inputs] bf16
    weight: torch.Tensor  # [num_heads, outputs, inputs] bf16


def make_inputs(case: Case, *, seed: int, device: str | torch.device) -> Inputs:
    """Normal values; results have a deviation of 1."""
    generator = torch.Generator(device).manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, device=device)

    weight = normal(case.num_heads, case.outputs, case.inputs) * case.inputs**-0.5
    return Inputs(normal(case.num_tokens, case.num_heads, case.inputs).bfloat16(), weight.bfloat16())

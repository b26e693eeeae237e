"""Shapes and made-up tensors that the tests and the bench share."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Case:
    """One call of the op."""

    num_tokens: int
    hidden: int
    num_experts: int
    topk: int
    why: str
    timed: bool = False

    def __str__(self) -> str:
        return f"m{self.num_tokens}-{self.num_experts}x{self.hidden}-top{self.topk}"


SMALL = (
    Case(0, 64, 32, 2, "no token"),
    Case(1, 8, 1, 1, "one expert, one load"),
    Case(3, 256, 16, 4, "fewer experts than lanes"),
    Case(5, 2056, 40, 8, "a rest of inputs and of experts"),
    Case(32, 512, 160, 6, "all tokens"),
    Case(17, 2048, 17, 8, "one token and one expert more than fit before"),
    Case(7, 6152, 96, 32, "as many chosen as lanes"),
    Case(2, 1024, 1024, 8, "the most experts"),
)
GLM52 = tuple(Case(num_tokens, 6144, 256, 8, "GLM-5.2", timed=True) for num_tokens in (1, 2, 4, 8, 16, 32))
CASES = (*SMALL, *GLM52)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Arguments of one call, but for `renormalize`."""

    x: torch.Tensor  # [num_tokens, hidden] bf16
    weight: torch.Tensor  # [num_experts, hidden] bf16
    bias: torch.Tensor  # [num_experts] float32
    topk: int


def make_inputs(case: Case, *, seed: int, device: str | torch.device) -> Inputs:
    """Normal values; logits have a deviation of 2, biases of 0.1."""
    generator = torch.Generator(device).manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, device=device)

    return Inputs(
        x=normal(case.num_tokens, case.hidden).bfloat16(),
        weight=(normal(case.num_experts, case.hidden) * 2 * case.hidden**-0.5).bfloat16(),
        bias=normal(case.num_experts) * 0.1,
        topk=case.topk,
    )

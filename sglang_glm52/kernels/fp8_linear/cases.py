"""Shapes and made-up tensors that the tests and the bench share."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sglang_glm52.formats.fp8_block import BLOCK


@dataclass(frozen=True, slots=True)
class Case:
    """One call of the op."""

    num_tokens: int
    outputs: int
    inputs: int
    why: str
    timed: bool = False

    def __str__(self) -> str:
        return f"m{self.num_tokens}-{self.outputs}x{self.inputs}"


# GLM-5.2's layers on one rank of TP 8.
LAYERS = {
    (2624, 6144): "q_a and kv_a",
    (2048, 2048): "q_b",
    (6144, 2048): "o",
    (512, 6144): "shared expert, gate and up",
    (6144, 256): "shared expert, down",
    (4096, 2048): "indexer, wq_b",
    (128, 6144): "indexer, wk",
    (3072, 6144): "dense MLP, gate and up",
    (6144, 1536): "dense MLP, down",
}
TIMED_TOKENS = (1, 2, 4, 8, 16)

SMALL = (
    Case(0, 128, 128, "no token"),
    Case(1, 16, 128, "one unit of weights"),
    Case(3, 48, 128, "a part of a block of weights, one group"),
    Case(5, 208, 640, "odd numbers of tiles and groups"),
    Case(7, 1040, 896, "a prime"),
    Case(8, 256, 384, "a full tile of tokens"),
    Case(9, 336, 1408, "one token in the second tile"),
    Case(13, 64, 6528, "many groups, few rows"),
    Case(16, 2064, 256, "two full tiles"),
    Case(16, 4096, 4096, "GLM-5.2, q_b under TP 4"),
)
LARGE = tuple(
    Case(num_tokens, outputs, inputs, why, timed=True)
    for (outputs, inputs), why in LAYERS.items()
    for num_tokens in TIMED_TOKENS
)
CASES = (*SMALL, *LARGE)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Arguments of one call."""

    x: torch.Tensor  # [num_tokens, inputs] bf16
    weight: torch.Tensor  # [outputs, inputs] float8_e4m3fn
    weight_scale: torch.Tensor  # [ceil(outputs / 128), inputs / 128] float32


def make_inputs(case: Case, *, seed: int, device: str | torch.device, exact: bool = False) -> Inputs:
    """Normal values; the first token is 1000 times larger, its second group zero, and scales differ by block.

    Args:
        exact: each group's largest value is a power of two, by which any device divides alike: rounding to FP8 is then
            the reference's to the bit.
    """
    generator = torch.Generator(device).manual_seed(seed)
    groups = case.inputs // BLOCK
    x = torch.randn(case.num_tokens, groups, BLOCK, generator=generator, device=device)
    x[:1] *= 1000.0
    if exact and case.num_tokens:
        largest = 2.0 ** x.abs().amax(dim=2).log2().ceil()
        place = torch.randint(BLOCK, largest.shape, generator=generator, device=device)
        x.scatter_(2, place.unsqueeze(2), largest.unsqueeze(2) * x.gather(2, place.unsqueeze(2)).sign())
    x[:1, 1:2] = 0.0
    # All e4m3 values but the two that are NaN.
    codes = torch.randint(0, 254, (case.outputs, case.inputs), generator=generator, device=device)
    codes = (codes + (codes > 126)).to(torch.uint8)
    blocks = (-(-case.outputs // BLOCK), groups)
    scale = (torch.rand(blocks, generator=generator, device=device) + 0.5) * (case.inputs**-0.5 / 100.0)
    return Inputs(x.flatten(1).bfloat16(), codes.view(torch.float8_e4m3fn), scale)

"""Shapes and values that the tests and the bench share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from sglang_glm52.formats.fp8_block import quantize_fp8_block
from sglang_glm52.formats.int4_group import GROUP

FLOATS = (torch.float32, torch.bfloat16, torch.float16)
_NUM_E4M3 = 0x7F  # finite values of one sign


@dataclass(frozen=True, slots=True)
class Case:
    """One call of the op. FP8 weights come with block scales."""

    rows: int
    cols: int
    dtype: torch.dtype
    values: str  # a name in VALUES
    why: str
    timed: bool = False

    def __str__(self) -> str:
        return f"{self.rows}x{self.cols}-{str(self.dtype).removeprefix('torch.')}-{self.values}"

    @property
    def has_blocks(self) -> bool:
        return self.dtype == torch.float8_e4m3fn


def _normal(shape: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    return torch.randn(shape, generator=generator) * 0.02


def _heavy_tailed(shape: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """Student's t with 3 degrees of freedom."""
    chi_squared = torch.randn((3, *shape), generator=generator).square().sum(0)
    return torch.randn(shape, generator=generator) * (3 / chi_squared).sqrt() * 0.02


def _zeros(shape: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    return torch.zeros(shape)


def _one_outlier(shape: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """One value of a group is large, above or below zero, with zeros or noise beside it."""
    values = torch.randn(shape, generator=generator) * 0.02
    values[::2] = 0
    values[:, 5::GROUP] = torch.randn(values[:, 5::GROUP].shape, generator=generator) * 3
    return values


def _every_size(shape: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """Each group has its own size, from below the smallest normal number to the largest."""
    groups = torch.randn(shape, generator=generator).clamp_(-1, 1).view(-1, GROUP)
    exponent = torch.linspace(-44, 38, len(groups), dtype=torch.float64)
    return (groups.double() * 10 ** exponent[:, None]).float().view(shape)


def _denormal(shape: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    return torch.randn(shape, generator=generator) * 1e-40


def _largest(shape: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """The outermost ones lie beyond 8 of the largest scale and are clipped."""
    return torch.randn(shape, generator=generator).clamp_(-1, 1) * torch.finfo(torch.float32).max


def _ties(shape: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """Steps and half steps of a scale that is a power of two, the outermost step among them: half goes to even."""
    groups = torch.randint(-15, 15, shape, generator=generator).view(-1, GROUP) / 2
    groups[:, 17] = torch.where(torch.arange(len(groups)) % 2 == 0, 7.0, -8.0)
    return (groups * 2.0 ** -torch.arange(len(groups)).remainder(10)[:, None]).view(shape)


VALUES: dict[str, Callable[[tuple[int, int], torch.Generator], torch.Tensor]] = {
    "normal": _normal,
    "heavy-tailed": _heavy_tailed,
    "zeros": _zeros,
    "one-outlier": _one_outlier,
    "every-size": _every_size,
    "denormal": _denormal,
    "largest": _largest,
    "ties": _ties,
}
ALL_CODES = "all-codes"  # of e4m3, with scales of their own

SMALL = (
    Case(0, 256, torch.bfloat16, "normal", "no row"),
    Case(1, 128, torch.float32, "normal", "one group"),
    Case(11, 640, torch.float16, "normal", "groups that no program's number divides"),
    *(Case(11, 640, dtype, values, "a prime") for values in VALUES for dtype in (torch.float32, torch.bfloat16)),
    Case(1, 128, torch.float8_e4m3fn, "normal", "one partial block"),
    Case(300, 128, torch.float8_e4m3fn, "normal", "a partial block below whole ones"),
    Case(129, 256, torch.float8_e4m3fn, "heavy-tailed", "one row in the lower blocks"),
    Case(130, 128, torch.float8_e4m3fn, "zeros", "blocks of zeros"),
    Case(130, 128, torch.float8_e4m3fn, "one-outlier", "most values are e4m3's denormals"),
    Case(130, 256, torch.float8_e4m3fn, ALL_CODES, "every code at every place of a pair"),
)
LARGE = (
    *(Case(6144, 2048, torch.float8_e4m3fn, values, "GLM-5.2 w2", timed=values == "normal") for values in VALUES),
    Case(4001, 6144, torch.float8_e4m3fn, "normal", "a prime number of long rows"),
    Case(6144, 2048, torch.bfloat16, "normal", "GLM-5.2 w2 from BF16", timed=True),
    Case(6144, 2048, torch.float32, "heavy-tailed", "GLM-5.2 w2 in float32", timed=True),
)
CASES = (*SMALL, *LARGE)


def make_weight(case: Case, seed: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(weight, its block scales or None) on the CPU."""
    generator, shape = torch.Generator().manual_seed(seed), (case.rows, case.cols)
    if case.values == ALL_CODES:
        return _all_codes(shape, generator)
    values = VALUES[case.values](shape, generator)
    if case.has_blocks:
        return quantize_fp8_block(values)
    largest = torch.finfo(case.dtype).max
    return values.clamp(-largest, largest).to(case.dtype), None


def _all_codes(shape: tuple[int, int], generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Neighbours are 1, 2, 3, ... codes apart; a block's scale is any power of ten."""
    rows, cols = (torch.arange(dim) for dim in shape)
    codes = ((rows[:, None] + 1) * cols + rows[:, None] // 2) % (2 * _NUM_E4M3)
    codes += (codes >= _NUM_E4M3).int()  # leaves out NaN
    blocks = tuple(-(-dim // GROUP) for dim in shape)
    scale = 10 ** (torch.rand(blocks, generator=generator) * 60 - 30)
    return codes.to(torch.uint8).view(torch.float8_e4m3fn), scale

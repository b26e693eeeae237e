"""Shapes and scores that the tests and the bench share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

TOPK = 2048  # GLM-5.2's
BEYOND = 5  # columns of the buffer beyond the last one: rows begin at any multiple of 4 bytes
ENCODINGS = ("positions", "table", "table-rows", "offsets")


@dataclass(frozen=True, slots=True)
class Case:
    """One call of the op. Rows are as long as `columns`, or ragged with an empty one."""

    rows: int
    columns: int
    values: str  # a name in VALUES
    why: str
    topk: int = TOPK
    ragged: bool = True
    starts: bool = False
    encoding: str = "positions"  # one of ENCODINGS
    timed: bool = False

    def __str__(self) -> str:
        parts = [f"{self.rows}x{self.columns}", self.values]
        parts += [f"top{self.topk}"] if self.topk != TOPK else []
        parts += ["full"] if not self.ragged else []
        parts += ["starts"] if self.starts else []
        return "-".join([*parts, self.encoding] if self.encoding != "positions" else parts)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Arguments of one call."""

    scores: torch.Tensor  # [rows, columns] float32, rows of a wider buffer, NaN where nothing may look
    lengths: torch.Tensor  # [rows] int32
    starts: torch.Tensor | None  # [rows] int32
    table: torch.Tensor | None  # [rows + 1, columns] int32, or [rows, columns]
    table_rows: torch.Tensor | None  # [rows] int32
    offsets: torch.Tensor | None  # [rows] int32

    def options(self) -> dict[str, torch.Tensor | None]:
        return {name: getattr(self, name) for name in ("starts", "table", "table_rows", "offsets")}


Shape = tuple[int, int]


def _normal(shape: Shape, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(shape, generator=generator, device=generator.device)


def _uniform(shape: Shape, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(shape, generator=generator, device=generator.device)


def _signed_zeros(shape: Shape, generator: torch.Generator) -> torch.Tensor:
    """Zeros of both signs, which are equal, with some numbers of both signs beside them."""
    return torch.where(_uniform(shape, generator) < 0.01, 1e-40, 0.0) * _normal(shape, generator)


def _tie_at_the_threshold(shape: Shape, generator: torch.Generator) -> torch.Tensor:
    """A thousand of a row stand out, and a third of it shares the next value."""
    scores = _uniform(shape, generator)
    return torch.where(scores < 1 / 3, scores, 1.0) + (scores > 1 - 1000 / shape[1])


def _infinite(shape: Shape, generator: torch.Generator) -> torch.Tensor:
    """Half of the scores are minus infinity, a few infinity."""
    scores, uniform = _normal(shape, generator), _uniform(shape, generator)
    return scores.masked_fill_(uniform < 0.5, float("-inf")).masked_fill_(uniform > 0.9999, float("inf"))


def _lately(shape: Shape, generator: torch.Generator) -> torch.Tensor:
    """The best lie close together near the end, as where a question is about what was said last."""
    return _normal(shape, generator) + 9.0 * (torch.arange(shape[1], device=generator.device) > shape[1] - 3000)


VALUES: dict[str, Callable[[Shape, torch.Generator], torch.Tensor]] = {
    "normal": _normal,
    "negative": lambda shape, generator: -_uniform(shape, generator) - 1e-3,
    "equal": lambda shape, generator: torch.full(shape, 0.625, device=generator.device),
    "signed-zeros": _signed_zeros,
    "tie-at-the-threshold": _tie_at_the_threshold,
    "eight-values": lambda shape, generator: _normal(shape, generator).mul(2).round().clamp(-4, 3),
    "infinite": _infinite,
    "sums-of-32-heads": lambda shape, generator: 30.0 + 3.0 * _normal(shape, generator),
    "within-a-quarter": lambda shape, generator: 1.0 + 0.2 * _uniform(shape, generator),
    "few-bits": lambda shape, generator: 1.0 + 1e-5 * _uniform(shape, generator),
    "ascending": lambda shape, generator: torch.arange(shape[1], device=generator.device).float().expand(shape) - 99.0,
    "descending": lambda shape, generator: 99.0 - torch.arange(shape[1], device=generator.device).float().expand(shape),
    "lately": _lately,
}

SMALL = (
    Case(0, 4096, "normal", "no row"),
    Case(3, 0, "normal", "no column"),
    Case(4, 1, "normal", "one column"),
    *(Case(5, columns, "normal", "around topk") for columns in (2047, 2048, 2049, 4001)),
    *(Case(5, 3001, "eight-values", "another topk", topk=topk) for topk in (1, 512, 1000, 1024, 4096)),
    *(Case(5, 6007, "eight-values", "another result", encoding=encoding) for encoding in ENCODINGS[1:]),
    *(Case(5, 6007, "normal", "rows begin anywhere", starts=True, encoding=encoding) for encoding in ENCODINGS),
    *(Case(6, 20_011, values, "a prime") for values in VALUES),
)
LARGE = (
    *(Case(6, 131_072, values, "a row in several blocks", starts=values < "n") for values in VALUES),
    *(Case(3, 1_048_576, values, "the whole window") for values in VALUES),
    Case(1, 8192, "normal", "a decode step", ragged=False, timed=True),
    Case(1, 131_072, "normal", "a decode step", ragged=False, timed=True),
    Case(1, 1_048_576, "normal", "a decode step", ragged=False, timed=True),
    Case(16, 131_072, "normal", "a decode step of 16 requests", ragged=False, timed=True),
    Case(64, 1_048_576, "normal", "a decode step of 64 requests", ragged=False, timed=True),
    Case(8192, 8192, "normal", "a prefill chunk", ragged=False, timed=True),
    Case(528, 520_000, "normal", "a wave of a long prefill", ragged=False, timed=True),
    Case(528, 520_000, "ascending", "the same, always better", ragged=False, timed=True),
)
CASES = (*SMALL, *LARGE)


def make_inputs(case: Case, *, seed: int, device: str | torch.device) -> Inputs:
    """Tensors of one call."""
    generator = torch.Generator(device).manual_seed(seed)
    rows, columns = case.rows, case.columns
    gap = 0 if case.timed else BEYOND  # some of the kernels that are timed beside it take rows without gaps alone
    wide = torch.full((rows, columns + gap), float("nan"), device=device)
    scores = wide[:, :columns]
    if scores.numel():
        scores.copy_(VALUES[case.values]((rows, columns), generator))
    starts, lengths = None, torch.full((rows,), columns, dtype=torch.int32, device=device)
    if case.ragged:
        shares = torch.tensor([1.0, 0.0, 0.999, 0.5, 0.3], device=device).repeat(-(-rows // 5))[:rows]
        lengths = (lengths * shares).ceil().int()
    if case.starts:
        starts = torch.arange(rows, dtype=torch.int32, device=device) * 7 % max(columns // 2, 1)
        lengths = torch.minimum(lengths, columns - starts)
    table = table_rows = offsets = None
    if case.encoding.startswith("table"):
        size = (rows + 1, columns)
        table = torch.randint(1 << 30, size, generator=generator, device=device, dtype=torch.int32)
    if case.encoding == "table-rows":
        table_rows = (torch.arange(rows, dtype=torch.int32, device=device) * 3 + 1) % (rows + 1)
    if case.encoding == "offsets":
        offsets = torch.arange(rows, dtype=torch.int32, device=device) * 1000
    return Inputs(scores, lengths, starts, table, table_rows, offsets)

"""What `glm52 bench moe` measured, as it writes it to --out and reads it with --from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sglang_glm52.bench.record import Environment
from sglang_glm52.bench.spread import Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One number of tokens: what a call of it is, on average over the routings."""

    tokens: int
    experts: float  # distinct ones that a call reads
    weight_bytes: float
    flops: float
    floor_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One contender at one number of tokens: a time, or why there is none."""

    contender: str
    tokens: int
    us: Spread | None = None
    difference: float | None = None  # from the reference, relative
    problem: str | None = None


@dataclass(slots=True)
class MoeResult:
    """All of one run, or what it has measured so far."""

    settings: Mapping[str, Any]
    environment: Environment
    bytes_per_second: float  # of a copy, read and written
    points: Sequence[Point]
    rows: list[Row] = field(default_factory=list)

    @property
    def contenders(self) -> list[str]:
        return list(dict.fromkeys(row.contender for row in self.rows))

    def row(self, contender: str, tokens: int) -> Row | None:
        return next((row for row in self.rows if (row.contender, row.tokens) == (contender, tokens)), None)

    def median_us(self, contender: str, tokens: int) -> float | None:
        row = self.row(contender, tokens)
        return row.us.median if row and row.us else None

    def write(self, path: Path) -> None:
        """Replace the file whole: a run that is cut off leaves what it had."""
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(self), allow_nan=False))
        part.replace(path)

    @classmethod
    def read(cls, path: Path) -> MoeResult:
        """ValueError, KeyError or TypeError for a file that is not of this bench."""
        fields = json.loads(path.read_text())
        return cls(
            settings=fields["settings"],
            environment=Environment(**fields["environment"]),
            bytes_per_second=fields["bytes_per_second"],
            points=[Point(**point) for point in fields["points"]],
            rows=[_row(row) for row in fields["rows"]],
        )


def _row(fields: Mapping[str, Any]) -> Row:
    us = fields["us"]
    return Row(**{**fields, "us": Spread(**us) if us else None})

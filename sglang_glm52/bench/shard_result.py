"""What one worker measured, as it writes it to its result file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sglang_glm52.bench.kernel_table import KernelRow, total_launches, total_ms
from sglang_glm52.bench.record import Environment
from sglang_glm52.bench.spread import Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One kind of step: a prefill chunk, or a decode step at one batch size."""

    wall_ms: Spread
    kernel_ms: Spread  # sum of kernel durations, over separate profiles
    kernels: tuple[KernelRow, ...]  # of the median profile

    @classmethod
    def of(cls, wall_ms: Sequence[float], profiles: Sequence[tuple[KernelRow, ...]]) -> Phase:
        """From step intervals and the kernel tables of an odd number of profiles."""
        by_total = sorted(profiles, key=total_ms)
        return cls(
            wall_ms=Spread.of(wall_ms),
            kernel_ms=Spread.of([total_ms(rows) for rows in by_total]),
            kernels=by_total[len(by_total) // 2],
        )

    @property
    def launches(self) -> float:
        return total_launches(self.kernels)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardResult:
    """All phases of one model class, or those measured so far."""

    model_class: str  # dotted path
    environment: Environment
    weight_gb: float
    experts_hit: Mapping[int, float]  # batch -> mean number of distinct experts a layer reads
    phases: Mapping[str, Phase]
    draft_class: str | None = None  # dotted path, where rounds were measured
    accepted: Mapping[str, float] = field(default_factory=dict)  # phase -> mean draft tokens accepted a round

    def write(self, path: Path) -> None:
        """Replace the file whole, so that who reads it while measuring goes on finds no half of one."""
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(self), allow_nan=False))
        part.replace(path)

    @classmethod
    def read(cls, path: Path) -> ShardResult:
        return cls.from_fields(json.loads(path.read_text()))

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> ShardResult:
        return cls(
            model_class=fields["model_class"],
            environment=Environment(**fields["environment"]),
            weight_gb=fields["weight_gb"],
            experts_hit={int(batch): hit for batch, hit in fields["experts_hit"].items()},
            phases={name: _phase(phase) for name, phase in fields["phases"].items()},
            draft_class=fields["draft_class"],
            accepted=fields["accepted"],
        )


def _phase(fields: Mapping[str, Any]) -> Phase:
    return Phase(
        wall_ms=Spread(**fields["wall_ms"]),
        kernel_ms=Spread(**fields["kernel_ms"]),
        kernels=tuple(KernelRow(**row) for row in fields["kernels"]),
    )

"""Tokens a second of a single stream from measured rounds, as a function of how often a draft token is accepted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sglang_glm52.bench.shard_result import ShardResult
from sglang_glm52.bench.speculation import PROBABILITIES, Speculation, decode_phase, speculation_of


@dataclass(frozen=True, slots=True)
class StreamSpeed:
    """One class's measured step at batch 1: a plain decode step, or a round."""

    which: str  # "host" or "ours"
    speculation: Speculation | None  # None: plain decode
    step_ms: float

    @property
    def label(self) -> str:
        return f"{self.which} {self.speculation or 'plain decode'}"

    def tokens_per_second(self, probability: float) -> float:
        """(1 + p + ... + p^N) / round time; 1 / step time for plain decode."""
        tokens = self.speculation.tokens_per_round(probability) if self.speculation else 1.0
        return 1e3 * tokens / self.step_ms


def stream_speeds(results: Mapping[str, ShardResult]) -> list[StreamSpeed]:
    """What was measured at batch 1, by number of steps, the host's first; empty if batch 1 was not asked for."""
    speeds = [
        StreamSpeed(which, speculation_of(name, batch=1), phase.wall_ms.median)
        for which, result in results.items()
        for name, phase in result.phases.items()
        if name == decode_phase(1) or speculation_of(name, batch=1)
    ]
    return sorted(speeds, key=lambda speed: (speed.speculation.steps if speed.speculation else 0, speed.which))


def speed_numbers(speeds: Sequence[StreamSpeed]) -> dict[str, Any]:
    """For the JSON line: label -> probability -> tokens a second."""
    return {speed.label: {str(p): round(speed.tokens_per_second(p), 2) for p in PROBABILITIES} for speed in speeds}

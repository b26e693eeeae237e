"""What the benches of single kernels have in common: their option, the check before it, the timing, the JSON line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch

from sglang_glm52.bench.record import Record, current_environment
from sglang_glm52.bench.timer import graph_intervals_ms
from sglang_glm52.errors import ConfigError

WARMUP = 3  # replays of a CUDA graph before the first that counts


def check_timing(option: str, count: int) -> None:
    """ConfigError unless `count`, given with `option`, is 1 or more and there is a GPU."""
    if count < 1:
        raise ConfigError(f"{option} {count}: expected 1 or more")
    if not torch.cuda.is_available():
        raise ConfigError("no CUDA GPU was found; the kernel is timed on one")


def add_replays(parser: argparse.ArgumentParser) -> None:
    """--replays, for `check_timing` and `graph_us`."""
    parser.add_argument("--replays", type=int, default=10, help="CUDA graphs timed of each (default: 10)")


def graph_us(calls: Sequence[Callable[[], object]], replays: int) -> float:
    """Median microseconds of one of `calls`, all in one CUDA graph. The first compiles and loads what all need."""
    calls[0]()

    def launch() -> None:
        for call in calls:
            call()

    return round(1e3 * median(graph_intervals_ms(launch, steps=replays, warmup=WARMUP)) / len(calls), 2)


def print_record(bench: str, replays: int, results: dict[str, Any]) -> None:
    """The JSON line that a bench ends with."""
    settings = {"replays": replays}
    print(Record(bench=bench, settings=settings, environment=current_environment(), results=results).json_line())

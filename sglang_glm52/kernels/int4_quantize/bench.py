"""`glm52 bench quantize`: the kernel beside its reference in plain torch on the same GPU, weights out of its cache."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from statistics import median

from sglang_glm52.bench.kernel_bench import check_timing
from sglang_glm52.bench.record import Record, current_environment, table
from sglang_glm52.bench.timer import step_intervals_ms
from sglang_glm52.kernels.int4_quantize import cases, int4_quantize, ref
from sglang_glm52.kernels.int4_quantize.cases import Case, make_weight
from sglang_glm52.kernels.int4_quantize.slab import Int4Slab

TIMED = tuple(case for case in cases.CASES if case.timed)
COLD_BYTES = 256 << 20  # of the weights that take turns: several times a GPU's cache
WARMUP = 10


@dataclass(frozen=True, slots=True)
class Row:
    """Medians of one case."""

    case: Case
    source_bytes: int
    kernel_us: float
    torch_us: float

    @property
    def gb_per_second(self) -> float:
        """Of the source."""
        return self.source_bytes / self.kernel_us / 1e3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=100, help="launches timed of each (default: 100)")


def run(args: argparse.Namespace) -> int:
    """Print a table and one JSON line. ConfigError: no CUDA GPU, or an option out of range."""
    check_timing("--steps", args.steps)
    rows = [measure(case, args.steps) for case in TIMED]
    header = ("case", "kernel us", "GB/s of source", "torch us", "torch / kernel")
    cells = [(str(r.case), r.kernel_us, r.gb_per_second, r.torch_us, r.torch_us / r.kernel_us) for r in rows]
    print(table(header, cells), end="\n\n")
    results = {str(r.case): {"kernel_us": round(r.kernel_us, 2), "torch_us": round(r.torch_us, 2)} for r in rows}
    record = Record(
        bench="quantize", settings={"steps": args.steps}, environment=current_environment(), results=results
    )
    print(record.json_line())
    return 0


def measure(case: Case, steps: int) -> Row:
    """Time both ways on the first GPU."""
    weight, block_scale = (None if part is None else part.cuda() for part in make_weight(case, seed=1))
    weights = [weight.clone() for _ in range(-(-COLD_BYTES // weight.nbytes))]

    def median_us(quantize: Callable[..., Int4Slab]) -> float:
        turns = cycle(weights)
        times = step_intervals_ms(
            lambda: quantize(next(turns), block_scale=block_scale), steps=steps, warmup=min(WARMUP, steps)
        )
        return 1e3 * median(times)

    source_bytes = weight.nbytes + (0 if block_scale is None else block_scale.nbytes)
    return Row(case, source_bytes, median_us(int4_quantize), median_us(ref.int4_quantize))

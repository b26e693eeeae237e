"""`glm52 bench linear`: layers of one rank, beside SGLang's two kernels and the time to read the weights."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median

import torch

from sglang_glm52.bench.kernel_bench import check_timing
from sglang_glm52.bench.record import Record, current_environment, table
from sglang_glm52.bench.timer import graph_intervals_ms
from sglang_glm52.formats.fp8_block import BLOCK
from sglang_glm52.kernels.fp8_linear.cases import CASES, Case, make_inputs
from sglang_glm52.kernels.fp8_linear.kernel import fp8_linear

Linear = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]  # of x, weight, weight_scale

TIMED = tuple(case for case in CASES if case.timed)
WARMUP = 3  # replays before the first that counts
COLD_BYTES, FEWEST_CALLS = 256 * 2**20, 20  # a graph's calls have weights of their own, more than the L2 cache holds
BYTES_PER_SECOND = 4.3e12  # an H200's memory, as `glm52 bench moe` measures it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--replays", type=int, default=10, help="CUDA graphs timed of each (default: 10)")


def run(args: argparse.Namespace) -> int:
    """Print a table and one JSON line. ConfigError: no CUDA GPU, or an option out of range."""
    check_timing("--replays", args.replays)
    results = {str(case): measure(case, args.replays) for case in TIMED}
    rows = [(str(case), case.why, *results[str(case)].values(), floor_us(case)) for case in TIMED]
    print(table(("case", "", "this us", "host us", "at memory speed"), rows), end="\n\n")
    record = Record(
        bench="linear", settings={"replays": args.replays}, environment=current_environment(), results=results
    )
    print(record.json_line())
    return 0


def floor_us(case: Case) -> float:
    """To read the weights, one byte each."""
    return round(case.outputs * case.inputs / BYTES_PER_SECOND * 1e6, 2)


def measure(case: Case, replays: int) -> dict[str, float]:
    """Median microseconds of a call in a CUDA graph of calls with different weights."""
    first = make_inputs(case, seed=1, device="cuda")
    calls = max(FEWEST_CALLS, COLD_BYTES // first.weight.numel())
    weights = [first.weight.clone() for _ in range(calls)]
    times = {}
    for name, linear in {"this": fp8_linear, "host": host_linear}.items():
        linear(first.x, first.weight, first.weight_scale)  # compiles and loads

        def launch(linear: Linear = linear) -> None:
            for weight in weights:
                linear(first.x, weight, first.weight_scale)

        times[name] = round(1e3 * median(graph_intervals_ms(launch, steps=replays, warmup=WARMUP)) / calls, 2)
    return times


def host_linear(x: torch.Tensor, weight: torch.Tensor, weight_scale: torch.Tensor) -> torch.Tensor:
    """SGLang's on Hopper: its quantiser and DeepGEMM."""
    from sglang.srt.layers.quantization.fp8_utils import deepgemm_w8a8_block_fp8_linear_with_fallback

    return deepgemm_w8a8_block_fp8_linear_with_fallback(x, weight, [BLOCK, BLOCK], weight_scale)

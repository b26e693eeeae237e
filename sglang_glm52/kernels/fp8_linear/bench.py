"""`glm52 bench linear`: layers of one rank, beside SGLang's two kernels and the time to read the weights."""

from __future__ import annotations

import argparse
from functools import partial

import torch

from sglang_glm52.bench.kernel_bench import add_replays, check_timing, graph_us, print_record
from sglang_glm52.bench.record import table
from sglang_glm52.formats.fp8_block import BLOCK
from sglang_glm52.kernels.fp8_linear.cases import CASES, Case, make_inputs
from sglang_glm52.kernels.fp8_linear.kernel import fp8_linear

TIMED = tuple(case for case in CASES if case.timed)
COLD_BYTES, FEWEST_CALLS = 256 * 2**20, 20  # a graph's calls have weights of their own, more than the L2 cache holds
BYTES_PER_SECOND = 4.3e12  # an H200's memory, as `glm52 bench moe` measures it


add_arguments = add_replays


def run(args: argparse.Namespace) -> int:
    """Print a table and one JSON line. ConfigError: no CUDA GPU, or an option out of range."""
    check_timing("--replays", args.replays)
    results = {str(case): measure(case, args.replays) for case in TIMED}
    rows = [(str(case), case.why, *results[str(case)].values(), floor_us(case)) for case in TIMED]
    print(table(("case", "", "this us", "host us", "at memory speed"), rows), end="\n\n")
    print_record("linear", args.replays, results)
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
        times[name] = graph_us([partial(linear, first.x, weight, first.weight_scale) for weight in weights], replays)
    return times


def host_linear(x: torch.Tensor, weight: torch.Tensor, weight_scale: torch.Tensor) -> torch.Tensor:
    """SGLang's on Hopper: its quantiser and DeepGEMM."""
    from sglang.srt.layers.quantization.fp8_utils import deepgemm_w8a8_block_fp8_linear_with_fallback

    return deepgemm_w8a8_block_fp8_linear_with_fallback(x, weight, [BLOCK, BLOCK], weight_scale)

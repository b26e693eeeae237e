"""`glm52 bench values`: attended latents to values, beside cuBLAS, which the host calls for them."""

from __future__ import annotations

import argparse
from functools import partial

import torch

from sglang_glm52.bench.kernel_bench import add_replays, check_timing, graph_us, print_record
from sglang_glm52.bench.record import table
from sglang_glm52.kernels.head_linear.cases import CASES, Case, Inputs, make_inputs
from sglang_glm52.kernels.head_linear.kernel import head_linear

TIMED = tuple(case for case in CASES if case.timed)
CALLS = 120  # in a CUDA graph, each with weights of its own, together more than the L2 cache holds


add_arguments = add_replays


def run(args: argparse.Namespace) -> int:
    """Print a table and one JSON line. ConfigError: no CUDA GPU, or an option out of range."""
    check_timing("--replays", args.replays)
    results = {str(case): measure(case, args.replays) for case in TIMED}
    rows = [(str(case), *results[str(case)].values()) for case in TIMED]
    print(table(("case", "this us", "cuBLAS us"), rows), end="\n\n")
    print_record("values", args.replays, results)
    return 0


def measure(case: Case, replays: int) -> dict[str, float]:
    """Median microseconds of a call in a CUDA graph of calls."""
    layers = [make_inputs(case, seed=seed, device="cuda") for seed in range(CALLS)]
    ways = {
        "this": [partial(head_linear, each.x, each.weight) for each in layers],
        "cuBLAS": [partial(host_values, each) for each in layers],
    }
    return {name: graph_us(calls, replays) for name, calls in ways.items()}


def host_values(inputs: Inputs) -> torch.Tensor:
    """[num_tokens, heads, outputs], written in place, as `models/attention.py` has it for many tokens."""
    num_tokens, heads, _ = inputs.x.shape
    out = inputs.x.new_empty(num_tokens, heads, inputs.weight.shape[1])
    torch.bmm(inputs.x.transpose(0, 1), inputs.weight.transpose(1, 2), out=out.transpose(0, 1))
    return out

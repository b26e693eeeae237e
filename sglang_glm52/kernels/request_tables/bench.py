"""`glm52 bench tables`: the kernel that plans a round's pass, in a CUDA graph, over the bytes that it moves."""

from __future__ import annotations

import argparse

from sglang_glm52.bench.kernel_bench import add_replays, check_timing, graph_us, print_record
from sglang_glm52.bench.record import table
from sglang_glm52.kernels.request_tables.cases import CASES, PAGE, TOPK, Case, make_inputs, make_tables
from sglang_glm52.kernels.request_tables.kernel import request_tables

TIMED = tuple(case for case in CASES if case.timed)
CALLS = 20  # in a CUDA graph


add_arguments = add_replays


def run(args: argparse.Namespace) -> int:
    """Print a table and one JSON line. ConfigError: no CUDA GPU, or an option out of range."""
    check_timing("--replays", args.replays)
    results = {str(case): measure(case, args.replays) for case in TIMED}
    rows = [(str(case), case.why, results[str(case)], num_bytes(case) / results[str(case)] / 1e3) for case in TIMED]
    print(table(("case", "", "us", "GB/s"), rows), end="\n\n")
    print_record("tables", args.replays, results)
    return 0


def num_bytes(case: Case) -> int:
    """Slots read once a request, written once a row, and a 64th of that as pages; int32."""
    lengths = [max(1, length + case.first + case.rows - 1) for length in case.seq_lens]
    return sum(length * 4 + case.rows * (length * 4 + -(-length // PAGE) * 4) for length in lengths)


def measure(case: Case, replays: int) -> float:
    """Median microseconds of a call in a CUDA graph."""
    inputs, out = make_inputs(case, 1, "cuda"), make_tables(case, "cuda")

    def call() -> None:
        request_tables(out, *inputs, first=case.first, index_topk=TOPK, page_size=PAGE)

    return graph_us([call] * CALLS, replays)

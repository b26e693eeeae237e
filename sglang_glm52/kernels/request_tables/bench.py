"""`glm52 bench tables`: the kernel that plans a round's pass, in a CUDA graph, over the bytes that it moves."""

from __future__ import annotations

import argparse
from statistics import median

from sglang_glm52.bench.kernel_bench import check_timing
from sglang_glm52.bench.record import Record, current_environment, table
from sglang_glm52.bench.timer import graph_intervals_ms
from sglang_glm52.kernels.request_tables.cases import CASES, PAGE, TOPK, Case, make_inputs, make_tables
from sglang_glm52.kernels.request_tables.kernel import request_tables

TIMED = tuple(case for case in CASES if case.timed)
CALLS, WARMUP = 20, 3  # calls in a CUDA graph, replays before the first that counts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--replays", type=int, default=10, help="CUDA graphs timed of each (default: 10)")


def run(args: argparse.Namespace) -> int:
    """Print a table and one JSON line. ConfigError: no CUDA GPU, or an option out of range."""
    check_timing("--replays", args.replays)
    results = {str(case): measure(case, args.replays) for case in TIMED}
    rows = [(str(case), case.why, results[str(case)], num_bytes(case) / results[str(case)] / 1e3) for case in TIMED]
    print(table(("case", "", "us", "GB/s"), rows), end="\n\n")
    record = Record(
        bench="tables", settings={"replays": args.replays}, environment=current_environment(), results=results
    )
    print(record.json_line())
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

    call()  # compiles and loads

    def launch() -> None:
        for _ in range(CALLS):
            call()

    return round(1e3 * median(graph_intervals_ms(launch, steps=replays, warmup=WARMUP)) / CALLS, 2)

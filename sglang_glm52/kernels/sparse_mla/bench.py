"""`glm52 bench attention`: one layer's sparse attention of one rank, FlashMLA's, and the time to read the keys."""

from __future__ import annotations

import argparse
from functools import partial

from sglang_glm52.bench import flashmla
from sglang_glm52.bench.kernel_bench import add_replays, check_timing, graph_us, print_record
from sglang_glm52.bench.record import table
from sglang_glm52.kernels.sparse_mla.cases import CASES, SCALE, Case, make_inputs
from sglang_glm52.kernels.sparse_mla.kernel import SLOT_BYTES, sparse_mla

TIMED = tuple(case for case in CASES if case.timed)
CALLS = 24  # of few tokens in a CUDA graph, each with slots of its own: more keys than the L2 cache holds
FEW_TOKENS = 64  # above them FlashMLA's kernel for prefills is timed, as SGLang would choose
# An H200's memory as `glm52 bench moe` measures it, and about what its multiprocessors read from the L2 cache.
MEMORY_BYTES_PER_US, CACHE_BYTES_PER_US = 4.3e6, 5.5e6
_CACHED_BYTES = 50e6


add_arguments = add_replays


def run(args: argparse.Namespace) -> int:
    """Print a table and one JSON line. ConfigError: no CUDA GPU, or an option out of range."""
    check_timing("--replays", args.replays)
    results = {str(case): measure(case, args.replays) for case in TIMED}
    rows = [(str(case), case.why, *results[str(case)].values(), floor_us(case)) for case in TIMED]
    print(table(("case", "", "this us", "FlashMLA us", "reading keys"), rows), end="\n\n")
    print_record("attention", args.replays, results)
    return 0


def floor_us(case: Case) -> float:
    """To read the selected keys, from the L2 cache where it holds all of them."""
    is_cached = case.num_slots * SLOT_BYTES <= _CACHED_BYTES
    speed = CACHE_BYTES_PER_US if is_cached else MEMORY_BYTES_PER_US
    return round(case.num_tokens * case.topk * SLOT_BYTES / speed, 2)


def measure(case: Case, replays: int) -> dict[str, float]:
    """Median microseconds of a call in a CUDA graph of calls with different slots."""
    inputs = make_inputs(case, seed=1, device="cuda")
    is_decode = case.num_tokens <= FEW_TOKENS
    calls = CALLS if is_decode else 1
    chosen = [(inputs.slots + 7 * call).remainder(case.num_slots) for call in range(calls)]
    attend = {
        "this": lambda slots: sparse_mla(inputs.q_nope, inputs.q_rope, inputs.cache, slots, SCALE),
        "FlashMLA": flashmla.of_decode(inputs) if is_decode else flashmla.of_prefill(inputs),
    }
    return {name: graph_us([partial(each, slots) for slots in chosen], replays) for name, each in attend.items()}

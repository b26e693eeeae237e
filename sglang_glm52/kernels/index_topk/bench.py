"""`glm52 bench topk`: the kernel beside FlashInfer's and sgl_kernel's, which SGLang offers, and torch's."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch

from sglang_glm52.bench.kernel_bench import add_replays, check_timing, graph_us, print_record
from sglang_glm52.bench.record import table
from sglang_glm52.kernels.index_topk import cases, index_topk
from sglang_glm52.kernels.index_topk.cases import Case, Inputs, make_inputs

TIMED = tuple(case for case in cases.CASES if case.timed)
CALLS = 20  # in a CUDA graph
_LARGE = 1 << 27  # scores in one call that takes long enough to need no more


add_arguments = add_replays


def run(args: argparse.Namespace) -> int:
    """Print a table and one JSON line. ConfigError: no CUDA GPU, or an option out of range."""
    check_timing("--replays", args.replays)
    contenders = {"this": _this, "FlashInfer": _flashinfer, "sgl_kernel": _sgl_kernel, "torch": _torch}
    results = {}
    for case in TIMED:
        inputs = make_inputs(case, seed=1, device="cuda")
        results[str(case)] = {
            name: measure(lambda call=call, inputs=inputs: call(inputs), case, args.replays)
            for name, call in contenders.items()
        }
    header = ("case", *(f"{name} us" for name in contenders), "GB/s of scores", "FlashInfer / this")
    cells = [_cells(case, results[str(case)]) for case in TIMED]
    print(table(header, cells), end="\n\n")
    print_record("topk", args.replays, results)
    return 0


def measure(call: Callable[[], object], case: Case, replays: int) -> float:
    """Median microseconds of a call in a CUDA graph, scores in the cache where they fit, as after computing them."""
    calls = 2 if case.rows * case.columns > _LARGE else CALLS
    return graph_us([call] * calls, replays)


def _cells(case: Case, times: dict[str, float]) -> tuple[object, ...]:
    scores_bytes = 4 * case.rows * case.columns
    return (str(case), *times.values(), scores_bytes / times["this"] / 1e3, times["FlashInfer"] / times["this"])


def _this(inputs: Inputs) -> torch.Tensor:
    return index_topk(inputs.scores, inputs.lengths, cases.TOPK, **inputs.options())


def _flashinfer(inputs: Inputs) -> torch.Tensor:
    """As this package calls it for prefills: in no order, and of equal scores any."""
    import flashinfer

    zeros = torch.zeros_like(inputs.lengths)
    return flashinfer.top_k_ragged_transform(inputs.scores, zeros, inputs.lengths, cases.TOPK)


def _sgl_kernel(inputs: Inputs) -> torch.Tensor:
    """Not exact: of scores that are alike in their upper bits it keeps some."""
    import sgl_kernel

    return sgl_kernel.fast_topk_v2(inputs.scores, inputs.lengths, cases.TOPK)


def _torch(inputs: Inputs) -> torch.Tensor:
    """Of whole rows, whatever their lengths."""
    return torch.topk(inputs.scores, cases.TOPK, sorted=False).indices

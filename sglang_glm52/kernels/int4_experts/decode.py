"""int4 experts for a few tokens, in CUDA C++ (folder cuda): every weight that is used is read once, near memory speed.

`prepare` rounds the tokens to FP8, `gate_up` computes h = silu(gate) * up of each slot (a routed token) and its largest
value, `round_all_h` rounds h to FP8, and `down` sums the products by router weight. Each kernel may start while the one
before it runs, and has weights on their way by the time that ends. Grids depend on shapes alone: each block finds its
tokens in topk_ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from sglang_glm52.kernels.cuda_source import Argument, Macros, load, num_multiprocessors
from sglang_glm52.kernels.int4_experts.kernel import check_inputs
from sglang_glm52.kernels.int4_experts.tuning import MAX_SLOTS, Tuning, choose_tuning
from sglang_glm52.kernels.int4_experts.weights import ExpertWeights, StaticScales

FOLDER = Path(__file__).with_name("cuda")
SOURCES = {"activations": ("prepare", "round_all_h"), "gate_up": ("gate_up",), "down": ("down",)}  # file -> kernels
PREPARE_THREADS, ROUND_THREADS = 512, 128


def int4_experts_decode(
    x: torch.Tensor,
    *,
    weights: ExpertWeights,
    topk_weights: torch.Tensor,
    topk_ids: torch.Tensor,
    factor: float,
    static: StaticScales | None = None,
) -> torch.Tensor:
    """See `kernel.int4_experts`: the same arguments, result and errors, for at most MAX_SLOTS of num_tokens * topk.

    The first call with weights of a shape compiles or loads the kernels: make it before a CUDA graph is captured.
    """
    check_inputs(x, weights, topk_weights, topk_ids, static)
    num_slots = topk_ids.numel()
    if num_slots > MAX_SLOTS:
        raise ValueError(
            f"{x.shape[0]} tokens with {topk_ids.shape[1]} experts each; the decode path takes at most {MAX_SLOTS} in "
            "all, the grouped path any number"
        )
    if x.data_ptr() % 16:
        raise ValueError("x does not start at a multiple of 16 bytes; copy it into a tensor of its own")
    if num_slots == 0:
        return torch.zeros_like(x)
    tuning = choose_tuning(weights.hidden, weights.inner, num_slots)
    return run(tuning, x, weights, topk_weights, topk_ids, factor, static)


@dataclass(frozen=True, slots=True)
class Launch:
    source: str  # file in the folder cuda
    kernel: str
    grid: int
    threads: int
    shared_bytes: int
    arguments: tuple[Argument, ...]


def run(
    tuning: Tuning,
    x: torch.Tensor,
    weights: ExpertWeights,
    topk_weights: torch.Tensor,
    topk_ids: torch.Tensor,
    factor: float,
    static: StaticScales | None,
) -> torch.Tensor:
    """`int4_experts_decode` with sizes of one's own and unchecked arguments, num_tokens * topk in 1 .. MAX_SLOTS."""
    out = torch.empty_like(x)
    stream = torch.cuda.current_stream(x.device).cuda_stream
    for launch in plan(tuning, x, weights, topk_weights, topk_ids, factor, static, out):
        constants = macros(launch.source, tuning, weights.hidden, weights.inner)
        kernels = load(FOLDER / f"{launch.source}.cu", SOURCES[launch.source], constants, x.device)
        kernels[launch.kernel].launch(
            (launch.grid, 1), launch.threads, launch.shared_bytes, launch.arguments, stream=stream
        )
    return out


def macros(source: str, tuning: Tuning, hidden: int, inner: int) -> Macros:
    """What a file of the folder cuda is compiled with."""
    sizes = {"HIDDEN": hidden, "INNER": inner}
    if source == "activations":
        sizes |= {"PREPARE_THREADS": PREPARE_THREADS, "ROUND_THREADS": ROUND_THREADS}
    else:
        sizes |= tuning.macros(source.partition("_")[0])
    return tuple(sizes.items())


def plan(
    tuning: Tuning,
    x: torch.Tensor,
    weights: ExpertWeights,
    topk_weights: torch.Tensor,
    topk_ids: torch.Tensor,
    factor: float,
    static: StaticScales | None,
    out: torch.Tensor,
) -> list[Launch]:
    """The kernels of one call in order, with new buffers between them; `out` [num_tokens, hidden] bf16 is written."""
    hidden, inner, num_experts = weights.hidden, weights.inner, weights.num_experts
    (num_tokens, topk), num_slots = topk_ids.shape, topk_ids.numel()
    q = x.new_empty(num_tokens, hidden, dtype=torch.float16)
    scale_x = x.new_empty(num_tokens, dtype=torch.float32)
    h = x.new_empty(num_slots, inner)
    absmax_h = x.new_empty(num_slots, dtype=torch.int32)  # bits of float32
    static_x, static_h = (static.x, static.h) if static else (None, None)
    sizes = num_slots, topk, num_experts
    prepare = Launch(
        "activations", "prepare", num_tokens, PREPARE_THREADS, 0, (x, static_x, topk, q, scale_x, absmax_h)
    )
    gate_up = Launch(
        "gate_up",
        "gate_up",
        min(tuning.most_items(inner, num_slots, num_experts), tuning.gate_blocks * num_multiprocessors(x.device)),
        tuning.gate_warps * 32,
        tuning.gate_up_bytes(num_slots, num_experts),
        (weights.w13, weights.scale13, weights.w2, q, scale_x, topk_ids, *sizes, h, absmax_h),
    )
    round_all_h = Launch(
        "activations",
        "round_all_h",
        -(-num_slots * 32 // ROUND_THREADS),
        ROUND_THREADS,
        0,
        (h, absmax_h, static_h, num_slots),
    )
    down = Launch(
        "down",
        "down",
        hidden // tuning.down_rows,
        tuning.down_warps * 32,
        tuning.down_bytes(num_slots, num_experts),
        (weights.w2, weights.scale2, h, absmax_h, static_h, topk_ids, topk_weights, float(factor), *sizes, out),
    )
    return [prepare, gate_up, round_all_h, down]

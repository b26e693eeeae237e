"""`glm52 bench router`: logits and the choice of experts, beside the host's kernels for them."""

from __future__ import annotations

import argparse
from functools import partial

import torch

from sglang_glm52.bench.kernel_bench import add_replays, check_timing, graph_us, print_record
from sglang_glm52.bench.record import table
from sglang_glm52.kernels.router.cases import CASES, Case, Inputs, make_inputs
from sglang_glm52.kernels.router.kernel import choose_experts, router, router_logits

TIMED = tuple(case for case in CASES if case.timed)
CALLS = 80  # layers in a CUDA graph, each with weights of its own, together more than the L2 cache holds


add_arguments = add_replays


def run(args: argparse.Namespace) -> int:
    """Print a table and one JSON line. ConfigError: no CUDA GPU, or an option out of range."""
    check_timing("--replays", args.replays)
    results = {str(case): measure(case, args.replays) for case in TIMED}
    names = list(next(iter(results.values())))
    rows = [(str(case), *results[str(case)].values()) for case in TIMED]
    print(table(("case", *(f"{name} us" for name in names)), rows), end="\n\n")
    print_record("router", args.replays, results)
    return 0


def measure(case: Case, replays: int) -> dict[str, float]:
    """Median microseconds of a layer in a CUDA graph of layers: all of it, and its two steps alone."""
    layers = [make_inputs(case, seed=seed, device="cuda") for seed in range(CALLS)]
    logits = [router_logits(each.x, each.weight) for each in layers]
    choice = partial(choose_experts, topk=case.topk, renormalize=True)
    ways = {
        "this": [partial(own_router, each) for each in layers],
        "host": [partial(host_router, each) for each in layers],
        "logits": [partial(router_logits, each.x, each.weight) for each in layers],
        "host's logits": [partial(host_logits, each) for each in layers],
        "choice": [partial(choice, some, each.bias) for some, each in zip(logits, layers, strict=True)],
        "host's choice": [partial(host_choice, some, each) for some, each in zip(logits, layers, strict=True)],
    }
    return {name: graph_us(calls, replays) for name, calls in ways.items()}


def own_router(inputs: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
    return router(inputs.x, inputs.weight, inputs.bias, inputs.topk, renormalize=True)


def host_router(inputs: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
    return host_choice(host_logits(inputs), inputs)


def host_logits(inputs: Inputs) -> torch.Tensor:
    """cuBLAS, as a model's router calls it."""
    return torch.mm(inputs.x, inputs.weight.t(), out_dtype=torch.float32)


def host_choice(logits: torch.Tensor, inputs: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
    """SGLang's, as its TopK calls it for one group of experts."""
    from sglang.srt.layers.moe.topk import biased_grouped_topk

    return biased_grouped_topk(
        hidden_states=inputs.x,
        gating_output=logits,
        correction_bias=inputs.bias,
        topk=inputs.topk,
        renormalize=True,
        num_expert_group=1,
        topk_group=1,
        num_fused_shared_experts=0,
        routed_scaling_factor=2.5,
        apply_routed_scaling_factor_on_output=False,
    )

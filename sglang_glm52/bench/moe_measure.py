"""Time a contender: calls with changing weights and routings in one CUDA graph, each result held to the reference."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sglang_glm52.bench.moe_layer import Call, Layer, first_rows
from sglang_glm52.bench.spread import Spread
from sglang_glm52.bench.timer import graph_intervals_ms, step_intervals_ms
from sglang_glm52.kernels.int4_experts import ref
from sglang_glm52.kernels.int4_experts.cases import Inputs

REPLAYS, WARMUP = 30, 3
CHECKED_TOKENS = 16
# Relative, of all checked rows together. An emulation of what is meant to differ gives 5 % for bf16 activations, 7 %
# for one scale for all tokens, 8 % for weights in FP8; a weight in a wrong place or a scale left out is far beyond.
BOUND = 0.12
_COPY_BYTES = 2 << 30


class WrongResultError(ValueError):
    """A contender that computes something else: its time would mean nothing."""


def time_calls(calls: Sequence[Call], routings: Sequence[Inputs]) -> Spread:
    """Microseconds a call; call i uses weights i and routing i, in turn, so that weights come from memory."""

    def launch() -> None:
        for number, inputs in enumerate(routings):
            calls[number % len(calls)](inputs)

    launch()  # compiles, before the capture
    replays = graph_intervals_ms(launch, steps=REPLAYS, warmup=WARMUP)
    return Spread.of([1e3 * ms / len(routings) for ms in replays])


def references(layers: Sequence[Layer], routings: Sequence[Inputs]) -> list[torch.Tensor]:
    """The reference's result for the first tokens of one routing a layer."""
    checked = [first_rows(inputs, CHECKED_TOKENS) for inputs in routings[: len(layers)]]
    return [
        ref.int4_experts(
            inputs.x,
            weights=layer.weights,
            topk_weights=inputs.topk_weights,
            topk_ids=inputs.topk_ids,
            factor=inputs.factor,
        )
        for layer, inputs in zip(layers, checked, strict=True)
    ]


def largest_difference(calls: Sequence[Call], routings: Sequence[Inputs], expected: Sequence[torch.Tensor]) -> float:
    """|result - expected| / |expected| over the checked rows, the largest of all weights.

    Raises:
        WrongResultError: it is beyond what other roundings explain.
    """
    found = 0.0
    for call, inputs, want in zip(calls, routings, expected, strict=False):
        got, want = call(inputs)[: len(want)].float(), want.float()
        difference = ((got - want).norm() / want.norm()).item()
        if not difference < BOUND:  # a NaN is not
            raise WrongResultError(f"differs from the reference by {difference:.2g} of it, more than {BOUND:g}")
        found = max(found, difference)
    return found


def copy_bytes_per_second() -> float:
    """Of a copy on the device, bytes read and bytes written."""
    source = torch.empty(_COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    times = step_intervals_ms(lambda: target.copy_(source), steps=10, warmup=3)
    return 2 * _COPY_BYTES / (Spread.of(times).median * 1e-3)

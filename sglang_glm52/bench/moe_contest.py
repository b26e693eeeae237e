"""Contenders one after the other on the same weights and calls; what fails becomes a row that says why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch

from sglang_glm52.bench.moe_contenders import Contender, prepare
from sglang_glm52.bench.moe_layer import Call, Layer
from sglang_glm52.bench.moe_measure import WrongResultError, largest_difference, references, time_calls
from sglang_glm52.bench.moe_result import Point, Row
from sglang_glm52.kernels.int4_experts.bench import Limits, Work, work_of
from sglang_glm52.kernels.int4_experts.cases import Case, Inputs

# What other people's code raises for a shape, a device or a version that it was not written for.
FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
_PROBLEM_WIDTH = 200


class Contest:
    """The layers, and the calls by number of tokens; the reference's results are computed once for all contenders."""

    def __init__(self, layers: Sequence[Layer], routings: Mapping[int, Sequence[Inputs]]) -> None:
        self._layers, self._routings = layers, routings
        self._expected: dict[int, list[torch.Tensor]] = {}

    def run(self, contender: Contender) -> Iterator[Row]:
        """A row for each number of tokens, as it is measured."""
        try:
            calls = [prepare(contender, layer) for layer in self._layers]
        except FAILURES as error:
            problem = describe(error)
            yield from (Row(contender=contender.name, tokens=tokens, problem=problem) for tokens in self._routings)
            return
        for tokens in self._routings:
            yield self._row(contender.name, calls, tokens)

    def _row(self, name: str, calls: Sequence[Call], tokens: int) -> Row:
        routings = self._routings[tokens]
        if tokens not in self._expected:
            self._expected[tokens] = references(self._layers, routings)
        try:
            difference = largest_difference(calls, routings, self._expected[tokens])
            us = time_calls(calls, routings)
        except FAILURES as error:
            return Row(contender=name, tokens=tokens, problem=describe(error))
        return Row(contender=name, tokens=tokens, us=us, difference=difference)


def describe(error: Exception) -> str:
    """One line."""
    first, *_ = str(error).strip().splitlines() or [""]
    if isinstance(error, ModuleNotFoundError):
        return f"not installed: {first}"
    text = first if isinstance(error, WrongResultError) else f"{type(error).__name__}: {first}"
    return text if len(text) <= _PROBLEM_WIDTH else text[: _PROBLEM_WIDTH - 1] + "…"


def point_of(case: Case, routings: Sequence[Inputs], limits: Limits) -> Point:
    """What a call of `case` is on average over `routings`."""
    works = [work_of(case, inputs.topk_ids) for inputs in routings]
    total = sum(works, start=Work(0, 0, 0))
    return Point(
        tokens=case.num_tokens,
        experts=sum(inputs.topk_ids[inputs.topk_ids >= 0].unique().numel() for inputs in routings) / len(routings),
        weight_bytes=total.weight_bytes / len(works),
        flops=total.flops / len(works),
        floor_us=sum(map(limits.floor_us, works)) / len(works),
    )

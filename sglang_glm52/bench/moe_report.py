"""Tables, the line of JSON, and the crossover of `glm52 bench moe`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from sglang_glm52.bench.moe_contenders import CONTENDERS, OURS, TUNED
from sglang_glm52.bench.moe_result import MoeResult, Point, Row
from sglang_glm52.bench.record import table


def sections(found: MoeResult) -> Iterator[str]:
    """Each a paragraph or a table."""
    yield _heading(found)
    yield _times(found)
    if OURS in found.contenders and len(found.contenders) > 1:
        yield _ratios(found)
    yield _details(found)
    yield from _problems(found)
    if set(TUNED) <= set(found.contenders):
        yield _tuning(found)


def summary(found: MoeResult) -> dict[str, Any]:
    """The numbers of the JSON line."""
    return {
        "copy_tb_s": round(found.bytes_per_second / 1e12, 3),
        "floor_us": {point.tokens: round(point.floor_us, 2) for point in found.points},
        "us": {
            name: {row.tokens: round(row.us.median, 2) for row in found.rows if row.contender == name and row.us}
            for name in found.contenders
        },
        "problems": dict(_distinct_problems(found)),
    }


def crossover(found: MoeResult) -> int | None:
    """The smallest number of tokens from which on the grouped path was never slower; None if it is at the largest.

    Counts that only one of the paths took are that path's.
    """
    first = None
    for point in sorted(found.points, key=lambda point: -point.tokens):
        decode, grouped = (found.median_us(name, point.tokens) or math.inf for name in TUNED)
        if grouped > decode:
            break
        first = point.tokens
    return first


def _heading(found: MoeResult) -> str:
    settings = found.settings
    lines = [
        f"routed experts of one layer: hidden {settings['hidden']}, inner {settings['inner']}, {settings['experts']} "
        f"experts, top-{settings['topk']}, {settings['routing']} routing",
        f"{found.environment.gpu}: a copy moves {found.bytes_per_second / 1e12:.2f} TB/s; CUDA graphs of "
        f"{settings['routings']} calls over {settings['weight_sets']} sets of weights; medians",
        *(f"{name}: {CONTENDERS[name].what}" for name in found.contenders),
    ]
    return "\n".join(lines)


def _times(found: MoeResult) -> str:
    rows = [
        [
            point.tokens,
            f"{point.experts:.1f}",
            f"{point.weight_bytes / 1e6:.1f}",
            f"{point.floor_us:.1f}",
            *(_us(found.median_us(name, point.tokens)) for name in found.contenders),
        ]
        for point in found.points
    ]
    return "us a call\n" + table(["tokens", "experts", "MB", "floor", *found.contenders], rows)


def _ratios(found: MoeResult) -> str:
    others = [name for name in found.contenders if name != OURS]
    rows = [[point.tokens, *(_ratio(found, name, point.tokens) for name in others)] for point in found.points]
    means = [_geometric_mean([row[1 + column] for row in rows]) for column in range(len(others))]
    return "times the time of this package's op\n" + table(["tokens", *others], [*rows, ["geometric mean", *means]])


def _details(found: MoeResult) -> str:
    points = {point.tokens: point for point in found.points}
    rows = [_detail(row, points[row.tokens]) for row in found.rows if row.us]
    header = ["contender", "tokens", "us", "range", "weights GB/s", "TFLOPS", "floor / us", "differs"]
    return (
        "every measurement; `differs` is from the reference, whose activations are FP8 with a scale a token\n"
        + table(header, rows)
    )


def _detail(row: Row, point: Point) -> Sequence[object]:
    us = row.us.median
    return [
        row.contender,
        row.tokens,
        f"{us:.1f}",
        f"{row.us.low:.1f} - {row.us.high:.1f}",
        f"{point.weight_bytes / us / 1e3:.0f}",
        f"{point.flops / us / 1e6:.1f}",
        f"{point.floor_us / us:.0%}",
        None if row.difference is None else f"{row.difference:.2%}",
    ]


def _problems(found: MoeResult) -> Iterator[str]:
    lines = [f"{name}: {problem}" for name, problem in _distinct_problems(found)]
    if lines:
        yield "not measured\n" + "\n".join(lines)


def _distinct_problems(found: MoeResult) -> Iterator[tuple[str, str]]:
    """(contender and its numbers of tokens, problem), equal problems once."""
    by_problem: dict[tuple[str, str], list[int]] = {}
    for row in found.rows:
        if row.problem:
            by_problem.setdefault((row.contender, row.problem), []).append(row.tokens)
    for (name, problem), tokens in by_problem.items():
        yield (f"{name} at {', '.join(map(str, tokens))}" if len(tokens) < len(found.points) else name), problem


def _tuning(found: MoeResult) -> str:
    first = crossover(found)
    if first is None:
        return f"the decode path was faster at all of {[point.tokens for point in found.points]} tokens: try more"
    entry = f"{found.environment.gpu!r}: {{{found.settings['inner']}: {first}}},".replace("'", '"')
    return f"entry of MEASURED in kernels/int4_experts/table.py, beside those of other inner sizes:\n    {entry}"


def _ratio(found: MoeResult, name: str, tokens: int) -> float | None:
    ours, other = found.median_us(OURS, tokens), found.median_us(name, tokens)
    return other / ours if ours and other else None


def _geometric_mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.exp(sum(map(math.log, known)) / len(known)) if known else None


def _us(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}"

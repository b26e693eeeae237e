"""Both classes' measurements side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sglang_glm52.bench.kernel_groups import group_of
from sglang_glm52.bench.kernel_table import KernelRow, merge, short_name
from sglang_glm52.bench.record import table
from sglang_glm52.bench.shard_config import PUBLISHED
from sglang_glm52.bench.shard_result import Phase, ShardResult
from sglang_glm52.bench.spread import Spread

Results = Mapping[str, ShardResult]  # "host", "ours", or one of them
NAME_WIDTH = 64  # mangled names of CUTLASS kernels have over a thousand characters


def report(results: Results, num_kernels: int) -> str:
    """Tables for a terminal and for Markdown: totals, routing, then each phase's kernels by part and by name."""
    return "\n\n".join(_sections(results, num_kernels))


def summary(results: Results) -> dict[str, Any]:
    """The numbers of the JSON line: totals and groups by class, and ours over the host's where both were measured."""
    found: dict[str, Any] = {which: _numbers(result) for which, result in results.items()}
    if {"host", "ours"} <= results.keys():
        host, ours = results["host"].phases, results["ours"].phases
        found["ratio"] = {name: _ratios(host[name], ours[name]) for name in host if name in ours}
    return found


def ratio(ours: float | None, host: float | None) -> float | None:
    """Ours over the host's, None where either is missing or the host's is zero."""
    return None if not host or ours is None else ours / host


def uniform_experts_hit(num_experts: int, top_k: int, batch: int) -> float:
    """Expected number of distinct experts if each of `batch` tokens picked `top_k` at random."""
    return num_experts * (1.0 - (1.0 - top_k / num_experts) ** batch)


def _sections(results: Results, num_kernels: int) -> Iterator[str]:
    for which, result in results.items():
        classes = " with ".join(filter(None, (result.model_class, result.draft_class)))
        yield f"{which}: {classes}, weights {result.weight_gb:.1f} GB"
    yield _totals(results)
    if any(result.experts_hit for result in results.values()):
        yield _routing(results)
    for phase in _phases(results):
        yield _side_by_side(f"{phase}, by part of the model", results, phase, group_of, None)
        if num_kernels:
            yield _side_by_side(f"{phase}, by kernel", results, phase, short_name, num_kernels)


def _totals(results: Results) -> str:
    header = ["", "host", "range", "ours", "range", "ours / host"]
    return table(header, [row for name in _phases(results) for row in _total_rows(name, *_pair(results, name))])


def _total_rows(name: str, host: Phase | None, ours: Phase | None) -> Iterator[list[object]]:
    for label, field in (("wall ms", "wall_ms"), ("kernel sum ms", "kernel_ms")):
        spreads = [getattr(phase, field) if phase else None for phase in (host, ours)]
        cells = [cell for spread in spreads for cell in _spread_cells(spread)]
        medians = [spread.median if spread else None for spread in spreads]
        yield [f"{name}: {label}", *cells, _times(ratio(medians[1], medians[0]))]
    counts = [phase.launches if phase else None for phase in (host, ours)]
    whole = [None if count is None else round(count) for count in counts]
    yield [f"{name}: kernels", whole[0], None, whole[1], None, _times(ratio(counts[1], counts[0]))]


def _spread_cells(spread: Spread | None) -> tuple[str | None, str | None]:
    return (f"{spread.median:.3f}", f"{spread.low:.3f} - {spread.high:.3f}") if spread else (None, None)


def _routing(results: Results) -> str:
    experts, top_k = PUBLISHED["n_routed_experts"], PUBLISHED["num_experts_per_tok"]
    batches = sorted({batch for result in results.values() for batch in result.experts_hit})
    rows = [
        [
            batch,
            *(results[which].experts_hit.get(batch) if which in results else None for which in ("host", "ours")),
            uniform_experts_hit(experts, top_k, batch),
        ]
        for batch in batches
    ]
    return f"distinct experts of {experts} that a layer reads\n" + table(["batch", "host", "ours", "uniform"], rows)


def _side_by_side(title: str, results: Results, phase: str, key: Callable[[str], str], limit: int | None) -> str:
    host, ours = (merge(found.kernels, key) if found else {} for found in _pair(results, phase))
    names = sorted(host.keys() | ours.keys(), key=lambda name: -max(_ms(host, name) or 0, _ms(ours, name) or 0))
    rows = [_row(name, host.get(name), ours.get(name)) for name in names[:limit]]
    rest = names[len(rows) :]
    if rest:
        rows.append(_row(f"{len(rest)} more", _sum(host, rest), _sum(ours, rest)))
    rows.append(_row("sum", _sum(host, names), _sum(ours, names)))
    return f"{title}\n" + table(["", "host launches", "host ms", "ours launches", "ours ms", "ours / host"], rows)


def _row(name: str, host: KernelRow | None, ours: KernelRow | None) -> list[object]:
    host_ms, ours_ms = host.ms if host else None, ours.ms if ours else None
    return [
        name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 1] + "…",
        f"{host.launches:.4g}" if host else None,
        f"{host_ms:.3f}" if host else None,
        f"{ours.launches:.4g}" if ours else None,
        f"{ours_ms:.3f}" if ours else None,
        _times(ratio(ours_ms, host_ms)),
    ]


def _times(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"


def _ms(rows: Mapping[str, KernelRow], name: str) -> float | None:
    return rows[name].ms if name in rows else None


def _sum(rows: Mapping[str, KernelRow], names: Sequence[str]) -> KernelRow | None:
    found = [rows[name] for name in names if name in rows]
    return KernelRow("", sum(row.launches for row in found), sum(row.ms for row in found)) if found else None


def _phases(results: Results) -> list[str]:
    """All that either class has; one that was cut off lacks the last."""
    return list(dict.fromkeys(name for result in results.values() for name in result.phases))


def _pair(results: Results, phase: str) -> tuple[Phase | None, Phase | None]:
    host, ours = (results[which].phases.get(phase) if which in results else None for which in ("host", "ours"))
    return host, ours


def _numbers(result: ShardResult) -> dict[str, Any]:
    return {
        "model_class": result.model_class,
        "weight_gb": round(result.weight_gb, 2),
        "experts_hit": {batch: round(hit, 1) for batch, hit in result.experts_hit.items()},
        "phases": {name: _phase_numbers(phase) for name, phase in result.phases.items()},
    }


def _phase_numbers(phase: Phase) -> dict[str, Any]:
    groups = merge(phase.kernels, group_of)
    return {
        "wall_ms": round(phase.wall_ms.median, 4),
        "kernel_ms": round(phase.kernel_ms.median, 4),
        "launches": round(phase.launches, 1),
        "groups_ms": {name: round(row.ms, 4) for name, row in groups.items()},
    }


def _ratios(host: Phase, ours: Phase) -> dict[str, float | None]:
    return {
        "wall": _rounded(ratio(ours.wall_ms.median, host.wall_ms.median)),
        "kernel": _rounded(ratio(ours.kernel_ms.median, host.kernel_ms.median)),
        "launches": _rounded(ratio(ours.launches, host.launches)),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)

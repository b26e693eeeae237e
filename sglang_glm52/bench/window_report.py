"""Both classes' runs over the whole window side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sglang_glm52.bench.record import table
from sglang_glm52.bench.shard_report import ratio
from sglang_glm52.bench.window_file import PhaseResult
from sglang_glm52.bench.window_memory import START

CLASSES = ("host", "ours")
VALUES = {  # name in a result -> (row, what one of it is in the table's unit)
    "tokens_that_fit": ("tokens that fit", 1),
    "planned_tokens": ("tokens planned", 1),
    "planned_bytes": ("device memory planned, GB", 1e9),
    "start_s": ("start, s", 1.0),
    "ready_s": ("start and first prompt, s", 1.0),
    "first_token_s": ("time to first token, s", 1.0),
    "last_first_token_s": ("last first token, s", 1.0),
    "prefill_tokens_per_s": ("prefill tokens/s", 1.0),
    "step_ms": ("decode step, ms", 1.0),
    "all_s": ("all requests, s", 1.0),
    "new_tokens_per_s": ("new tokens/s", 1.0),
    "evicted_tokens": ("tokens evicted before", 1),
    "peak_bytes": ("most device memory, GB", 1e9),
}

Results = Mapping[str, Mapping[str, PhaseResult]]  # class -> phase -> result


def report(results: Results, num_tokens: int) -> str:
    """Markdown tables of all phases that either class has; `num_tokens` is the long prompts' length."""
    whole = table(["", *CLASSES, "ours / host"], _rows(results, num_tokens))
    return "\n\n".join([whole, *(_parts(results, phase, num_tokens) for phase in _phases(results, "chunk_parts_ms"))])


def summary(results: Results) -> dict[str, Any]:
    """The numbers of the JSON line: class -> phase -> values."""
    return {
        which: {phase: dict(result.values) for phase, result in phases.items()} for which, phases in results.items()
    }


def _rows(results: Results, num_tokens: int) -> Iterator[list[object]]:
    for phase in _phases(results):
        found = [results[which][phase].values if phase in results.get(which, {}) else {} for which in CLASSES]
        for name, (row, unit) in VALUES.items():
            pair = [values.get(name) for values in found]
            if any(value is not None for value in pair):
                host, ours = (value if value is None or unit == 1 else value / unit for value in pair)
                share = ratio(ours, host)
                yield [f"{_title(phase, num_tokens)}: {row}", host, ours, None if share is None else f"{share:.3f}"]


def _parts(results: Results, phase: str, num_tokens: int) -> str:
    """The kernels of the phase's last chunk and of a decode step behind it, by part of the model."""
    found = {which: results[which][phase].values for which in CLASSES if phase in results.get(which, {})}
    columns = {
        f"{title}, {which}": values.get(key, {})
        for key, title in (("chunk_parts_ms", "last chunk"), ("step_parts_ms", "decode step"))
        for which, values in found.items()
    }
    longest = max(columns.values(), key=len)
    names = dict.fromkeys([*longest, *(name for parts in columns.values() for name in parts)])
    rows = [[name, *(_ms(parts.get(name)) for parts in columns.values())] for name in names]
    rows.append(["sum", *(_ms(sum(parts.values())) for parts in columns.values())])
    return f"{_title(phase, num_tokens)}: ms of kernels\n" + table(["", *columns], rows)


def _ms(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"


def _phases(results: Results, key: str | None = None) -> list[str]:
    """All phases, or those whose values have `key` in either class."""
    phases = dict.fromkeys(
        phase
        for which in CLASSES
        for phase, result in results.get(which, {}).items()
        if key is None or key in result.values
    )
    return sorted(phases, key=lambda phase: phase != START)  # stable: the rest as they were measured


def _title(phase: str, num_tokens: int) -> str:
    return f"{phase} prompt of {num_tokens}" if phase in ("first", "second") else phase

"""Both classes' servers side by side, and beside what was published and planned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sglang_glm52.bench.node_memory import MEASURED, PLANNED
from sglang_glm52.bench.node_run import ERROR
from sglang_glm52.bench.node_spec import LONG, MANY, MEMORY, NO_SPECULATION, SINGLE, START
from sglang_glm52.bench.record import table
from sglang_glm52.bench.shard_report import ratio
from sglang_glm52.bench.window_file import PhaseResult
from sglang_glm52.bench.window_report import CLASSES
from sglang_glm52.planner.constants import GIB

_TTFT, _TPOT, _OUTPUT = ("ttft_ms", "TTFT, ms"), ("tpot_ms", "TPOT, ms"), ("output_tok_s", "output tok/s")
_ACCEPTED = ("accept_length", "tokens a round")
VALUES = {  # phase -> (name in a row, title)
    START: (("start_s", "start, s"), ("ready_s", "start and first prompt, s")),
    LONG: (_TTFT, ("prefill_tok_s", "prefill tok/s"), _TPOT),
    SINGLE: (_TTFT, ("decode_tok_s", "decode tok/s"), _OUTPUT, _ACCEPTED),
    MANY: (_TTFT, _TPOT, _OUTPUT, _ACCEPTED),
}
MEMORY_VALUES = {  # name -> (title, what one of it is in the table's unit)
    "weights_bytes": ("weights, GiB", GIB),
    "kv_bytes": ("KV cache, GiB", GIB),
    "tokens": ("tokens in a pool", 1),
    "used_bytes": ("in use, fullest GPU, GiB", GIB),
}
# Of PhalaCloud/GLM-5.2-W4AFP8 with SGLang 0.5.13.post1 on 8 x H200, without and with EAGLE, whose steps are not stated.
PUBLISHED = {SINGLE: (75.0, 118.0), MANY: (658.0, 733.0)}
PUBLISHED_LOAD = {"input": 8192, "output": 1024, "concurrency": 16}

Results = Mapping[str, Mapping[str, PhaseResult]]  # class -> row name -> result


def sections(results: Results, settings: Mapping[str, Any]) -> Iterator[str]:
    """The tables, what to know about them, and what failed."""
    yield table(["", *CLASSES, "ours / host", "published"], _speed_rows(results, settings))
    memory = list(_memory_rows(results))
    if memory:
        yield table(["memory of one GPU", MEASURED, PLANNED, f"{MEASURED} / {PLANNED}"], memory)
    notes = list(_notes(results, settings))
    if notes:
        yield "\n".join(notes)
    yield from _failures(results)


def summary(results: Results) -> dict[str, Any]:
    """The numbers of the JSON line: class -> row -> values."""
    return {which: {name: dict(row.values) for name, row in rows.items()} for which, rows in results.items()}


def _speed_rows(results: Results, settings: Mapping[str, Any]) -> Iterator[list[object]]:
    for name in _row_names(results):
        speculation, phase = name.split()
        found = [results[which][name].values if name in results.get(which, {}) else {} for which in CLASSES]
        for key, title in VALUES.get(phase, ()):
            host, ours = (values.get(key) for values in found)
            if host is None and ours is None:
                continue
            share = ratio(ours, host)
            published = _published(settings, speculation, phase) if key == "output_tok_s" else None
            yield [f"{_title(speculation)}, {phase}: {title}", host, ours, share and f"{share:.3f}", published]


def _published(settings: Mapping[str, Any], speculation: str, phase: str) -> float | None:
    if phase not in PUBLISHED or any(settings[name] != value for name, value in PUBLISHED_LOAD.items()):
        return None
    plain, eagle = PUBLISHED[phase]
    return plain if speculation == NO_SPECULATION else eagle


def _memory_rows(results: Results) -> Iterator[list[object]]:
    for which, rows in results.items():
        for name, row in rows.items():
            speculation, phase = name.split()
            if phase != MEMORY or ERROR in row.values:
                continue
            measured, planned = row.values[MEASURED], row.values[PLANNED]
            for key, (title, unit) in MEMORY_VALUES.items():
                if key in measured and key in planned:
                    share = ratio(measured[key], planned[key])
                    pair = [value if unit == 1 else value / unit for value in (measured[key], planned[key])]
                    yield [f"{which}, {_title(speculation)}: {title}", *pair, share and f"{share:.3f}"]


def _notes(results: Results, settings: Mapping[str, Any]) -> Iterator[str]:
    if settings["is_seeded"]:
        yield (
            "Weights are drawn from a seed, the same for both classes, so that tokens spread over all experts. Every "
            "rank draws the same slice."
        )
    speculates = any(not name.startswith(f"{NO_SPECULATION} ") for name in _row_names(results))
    if speculates and settings["acceptance"] is not None:
        yield (
            f"Acceptance is simulated, {settings['acceptance']:g} for each draft token: all requests of a round accept "
            "as many, and SGLang puts the same id for all new tokens, which makes the rows of a batch more alike than "
            "text does."
        )


def _failures(results: Results) -> Iterator[str]:
    for which, rows in results.items():
        for name, row in rows.items():
            if ERROR in row.values:
                yield f"{which}, {name} failed: {row.values[ERROR]}"


def _row_names(results: Results) -> list[str]:
    """Server by server, each from its start on."""
    names = dict.fromkeys(name for rows in results.values() for name in rows)
    servers = list(dict.fromkeys(name.split()[0] for name in names))
    phases = [START, MEMORY, LONG, SINGLE, MANY]
    return sorted(names, key=lambda name: (servers.index(name.split()[0]), phases.index(name.split()[1])))


def _title(speculation: str) -> str:
    return "no speculation" if speculation == NO_SPECULATION else f"EAGLE {speculation}"

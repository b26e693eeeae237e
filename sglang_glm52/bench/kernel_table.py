"""A profiler trace as a table: every kernel by name, how often a step launches it and how long it takes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# Categories of the Chrome trace that are work on the device; annotations appear on the device's timeline as well.
DEVICE_CATEGORIES = frozenset({"kernel", "gpu_memcpy", "gpu_memset"})

_GENERIC = re.compile(r"at::native::|at_cuda_detail::|cutlass::(device_kernel|Kernel2?)$")
_TELLING = re.compile(r"\w*Functor\w*|\w+_kernel_cuda|\w*copy_kernel\w*|\w*Gemm\w*|FlashAttn\w*|\w+Op\b")


@dataclass(frozen=True, slots=True)
class KernelRow:
    """One kernel, as one step of the measured work runs it."""

    name: str  # demangled, with template arguments
    launches: float
    ms: float


def tabulate(trace: Mapping[str, Any], steps: int) -> tuple[KernelRow, ...]:
    """Rows of a Chrome trace of `steps` equal steps, the longest first.

    Durations in the trace are microseconds (the Trace Event Format). ValueError if nothing ran on the device.
    """
    durations: dict[str, list[float]] = defaultdict(list)
    for event in trace["traceEvents"]:
        if event.get("cat") in DEVICE_CATEGORIES and event.get("ph") == "X":
            durations[event["name"]].append(event["dur"])
    if not durations:
        raise ValueError("the profiler saw no kernel; another profiler may hold the GPU (CUPTI serves one at a time)")
    rows = (KernelRow(name, len(us) / steps, sum(us) / steps / 1e3) for name, us in durations.items())
    return tuple(sorted(rows, key=lambda row: row.ms, reverse=True))


def total_ms(rows: Iterable[KernelRow]) -> float:
    return sum(row.ms for row in rows)


def total_launches(rows: Iterable[KernelRow]) -> float:
    return sum(row.launches for row in rows)


def merge(rows: Iterable[KernelRow], key: Callable[[str], str]) -> dict[str, KernelRow]:
    """Sum rows that share `key(row.name)`; the longest first."""
    merged: dict[str, KernelRow] = {}
    for row in rows:
        name = key(row.name)
        so_far = merged.get(name, KernelRow(name, 0.0, 0.0))
        merged[name] = KernelRow(name, so_far.launches + row.launches, so_far.ms + row.ms)
    return dict(sorted(merged.items(), key=lambda item: item[1].ms, reverse=True))


def short_name(name: str) -> str:
    """A kernel's name without return type, template arguments and parameters.

    Some names say what they do only in a template argument; it is kept: "at::native::elementwise_kernel[FillFunctor]".
    """
    bare = name.removeprefix("void ")
    base = re.split(r" ?[<(]", bare, maxsplit=1)[0] or bare
    inner = _TELLING.search(bare, len(base)) if _GENERIC.match(base) else None
    return f"{base}[{inner.group()}]" if inner else base

"""Tens of thousands of tensor names in a few lines: experts, then layers, that differ in their number alone.

model.layers.{3-77}.mlp.experts.{0,2,5-255}.up_proj.weight
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_NUMBERED = (re.compile(r"(?<=\.experts\.)\d+(?=\.)"), re.compile(r"(?<=^model\.layers\.)\d+(?=\.)"))


def fold_names(names: Iterable[str]) -> list[str]:
    """Every name, in order of first appearance; names that differ in one number become one line with its ranges."""
    lines = list(dict.fromkeys(names))
    for number in _NUMBERED:
        lines = _fold(lines, number)
    return lines


def _fold(lines: list[str], number: re.Pattern[str]) -> list[str]:
    found: dict[str, list[int]] = {}
    for line in lines:
        match = number.search(line)
        key = line if match is None else f"{line[: match.start()]}\0{line[match.end() :]}"
        found.setdefault(key, []).extend([] if match is None else [int(match.group())])
    return [key.replace("\0", _ranges(values)) for key, values in found.items()]


def _ranges(values: list[int]) -> str:
    """[3, 0, 1, 2, 7] -> "{0-3,7}"; a single value stands bare."""
    if len(values) == 1:
        return str(values[0])
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return "{" + ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs) + "}"

"""What every bench prints: aligned tables, then as its last line one JSON object that says where they come from."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where a measurement ran."""

    gpu: str
    driver: str
    torch: str
    sglang: str
    commit: str | None  # of this package's checkout; "-dirty" if it has changes; None outside a checkout


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One measurement, complete enough to repeat it."""

    bench: str
    settings: Mapping[str, Any]
    environment: Environment
    results: Mapping[str, Any]

    def json_line(self) -> str:
        """The record as one line of strict JSON; ValueError for a NaN or an infinity."""
        return json.dumps(asdict(self), allow_nan=False)


def current_environment() -> Environment:
    """The first GPU and the versions of this process; RuntimeError from torch without a GPU."""
    import torch

    return Environment(
        gpu=torch.cuda.get_device_name(0),
        driver=_driver_version(),
        torch=torch.__version__,
        sglang=version("sglang"),
        commit=checkout_commit(Path(__file__)),
    )


def cpu_environment() -> Environment:
    """The versions of this process, for what runs without a GPU."""
    commit = checkout_commit(Path(__file__))
    return Environment(gpu="none", driver="none", torch=version("torch"), sglang=version("sglang"), commit=commit)


def checkout_commit(file: Path) -> str | None:
    """Short commit of the git checkout that tracks `file`, "-dirty" appended if it has changes; None without one."""
    if _git(file.parent, "ls-files", "--error-unmatch", str(file)) is None:
        return None
    commit = _git(file.parent, "rev-parse", "--short=12", "HEAD")
    return f"{commit}-dirty" if _git(file.parent, "status", "--porcelain", "--untracked-files=no") else commit


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table, aligned for a terminal: first column left, the others right; None is printed as "-"."""
    cells = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    first, *others = widths
    rule = "|" + "-" * (first + 2) + "|" + "".join("-" * (width + 1) + ":|" for width in others)
    lines = [_line(row, widths) for row in cells]
    return "\n".join([lines[0], rule, *lines[1:]])


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    padded = [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]
    return "| " + " | ".join(padded) + " |"


def _driver_version() -> str:
    import pynvml

    pynvml.nvmlInit()
    try:
        return pynvml.nvmlSystemGetDriverVersion()
    finally:
        pynvml.nvmlShutdown()


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()

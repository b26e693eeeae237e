"""Files that a command is to write, checked before its work: a mistyped folder must not cost what was measured."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from sglang_glm52.errors import ConfigError


def check_outputs(*, plot: Path | None = None, **files: Path | None) -> None:
    """Raise ConfigError unless each file, by the name of its option, can be written, and `plot` be drawn."""
    for option, path in {**files, "plot": plot}.items():
        if path is not None and not path.parent.is_dir():
            raise ConfigError(f"--{option} {path}: there is no folder {path.parent}; create it first")
    if plot is not None and find_spec("matplotlib") is None:
        raise ConfigError("--plot needs matplotlib: pip install 'sglang-glm52[plot]'")

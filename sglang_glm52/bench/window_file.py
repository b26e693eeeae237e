"""The file of `--out` of `glm52 bench window` and `node`: a JSON line for each phase, written once it is over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sglang_glm52.bench.record import Environment
from sglang_glm52.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseResult:
    """One phase of one model class."""

    which: str
    phase: str
    settings: Mapping[str, Any]
    environment: Environment
    values: Mapping[str, Any]

    def append_to(self, path: Path) -> None:
        with path.open("a") as file:
            file.write(json.dumps(asdict(self), allow_nan=False) + "\n")


def read_results(path: Path) -> list[PhaseResult]:
    """All lines of a file, none if there is no file yet; ConfigError if it is another kind of file."""
    if not path.exists():
        return []
    try:
        return [_parse(line) for line in path.read_text().splitlines()]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: {error!r}; expected lines that --out wrote") from error


def require_settings(path: Path, results: list[PhaseResult], settings: Mapping[str, Any]) -> None:
    """ConfigError, with the first difference, if `path` was begun with other settings."""
    for result in results:
        for name in settings.keys() | result.settings.keys():
            before, now = result.settings.get(name), settings.get(name)
            if before != now:
                raise ConfigError(f"{path} was begun with {name} = {before}, now it is {now}; give another --out")


def latest(results: list[PhaseResult]) -> dict[str, dict[str, PhaseResult]]:
    """Class -> phase -> its last result."""
    found: dict[str, dict[str, PhaseResult]] = {}
    for result in results:
        found.setdefault(result.which, {})[result.phase] = result
    return found


def _parse(line: str) -> PhaseResult:
    fields = json.loads(line)
    return PhaseResult(**{**fields, "environment": Environment(**fields["environment"])})

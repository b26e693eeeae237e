"""The file of `--out`: every kernel of every phase of both classes, and how they were measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sglang_glm52.bench.shard_result import ShardResult
from sglang_glm52.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ShardFile:
    """Settings and results of one `glm52 bench shard`, perhaps still running."""

    settings: Mapping[str, Any]
    results: Mapping[str, ShardResult]  # "host", "ours", or one of them

    def write(self, path: Path) -> None:
        """Replace `path` whole."""
        part = path.with_suffix(".part")
        results = {which: asdict(result) for which, result in self.results.items()}
        part.write_text(json.dumps({"settings": self.settings, **results}, indent=1))
        part.replace(path)

    @classmethod
    def read(cls, path: Path) -> ShardFile:
        """ConfigError if `path` is not such a file."""
        try:
            fields = json.loads(path.read_text())
            settings = fields.pop("settings")
            results = {which: ShardResult.from_fields(result) for which, result in fields.items()}
            if not results or not {"format", "speculative"} <= settings.keys():
                raise ValueError(f"settings {list(settings)} and results {list(results)}")
            return cls(settings, results)
        except FileNotFoundError:
            raise ConfigError(f"{path}: no such file; give one that `glm52 bench shard --out` wrote") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{path}: {error!r}; expected a file that this version's `glm52 bench shard --out` wrote"
            ) from error

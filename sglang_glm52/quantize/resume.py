"""What lets a stopped conversion go on: a folder in the output with the arguments and the finished shards' figures."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from sglang_glm52.errors import ConfigError
from sglang_glm52.formats.int4_group import WeightError
from sglang_glm52.quantize.durable import rename_whole, sync_folder, write_whole
from sglang_glm52.quantize.work import Figures

WORK_FOLDER = ".glm52-quantize"
TEMPORARY = ".partial"
_ARGUMENTS = "arguments.json"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # some network file systems


@dataclass(frozen=True, slots=True)
class Arguments:
    """All that the output's bytes depend on. The number of workers is not among it."""

    method: str
    device: str
    package: str  # version of this package
    source: str  # fingerprint of the checkpoint

    def refuse_others(self, begun: Mapping[str, Any], dst: Path) -> None:
        """ConfigError unless the conversion in `dst` was begun with these very arguments."""
        remedies = {
            "method": f"give --method {begun.get('method')}",
            "device": f"give --device {begun.get('device')}",
            "package": f"install sglang-glm52 {begun.get('package')}",
            "source": "name the checkpoint it was begun from",
        }
        for field, value in asdict(self).items():
            if begun.get(field) != value:
                raise ConfigError(
                    f"{dst} was begun with {field} {begun.get(field)!r}, this call has {value!r}: "
                    f"{remedies[field]}, or another folder"
                )


class WorkFolder:
    """Open for as long as a conversion runs; one process at a time."""

    def __init__(self, dst: Path, arguments: Arguments) -> None:
        self._dst, self._arguments = dst, arguments
        self._folder = dst / WORK_FOLDER

    def __enter__(self) -> WorkFolder:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self._folder, os.O_RDONLY)
        try:
            self._take_lock()
            self._begin()
        except (ConfigError, OSError):
            os.close(self._lock)
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._lock)

    def temporary(self, name: str) -> Path:
        return self._folder / (name + TEMPORARY)

    def write(self, name: str, data: bytes) -> None:
        """Write a whole file of the output."""
        write_whole(self._dst / name, data, self.temporary(name))

    def publish(self, name: str, figures: Mapping[str, Figures]) -> None:
        """The shard at `temporary(name)` is finished: keep its figures, then give it its name."""
        data = {weight: asdict(found) for weight, found in figures.items()}  # the errors too are dataclasses
        write_whole(self._figures_file(name), json.dumps(data).encode(), self.temporary(f"{name}.json"))
        rename_whole(self.temporary(name), self._dst / name)

    def finished(self, name: str, file_bytes: int) -> dict[str, Figures] | None:
        """Figures of a shard that an earlier call has finished, None if there is no such shard."""
        shard, file = self._dst / name, self._figures_file(name)
        if not (shard.is_file() and shard.stat().st_size == file_bytes and file.is_file()):
            return None
        return {weight: _figures(found) for weight, found in json.loads(file.read_text()).items()}

    def remove(self) -> None:
        shutil.rmtree(self._folder)
        sync_folder(self._dst)

    def _figures_file(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"another glm52 quantize is writing {self._dst}; wait for it, or stop it first"
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise

    def _begin(self) -> None:
        file = self._folder / _ARGUMENTS
        if file.is_file():
            self._arguments.refuse_others(json.loads(file.read_text()), self._dst)
        else:
            write_whole(file, json.dumps(asdict(self._arguments)).encode(), self.temporary(_ARGUMENTS))
        for stale in self._folder.glob(f"*{TEMPORARY}"):
            stale.unlink()


def has_begun(dst: Path) -> bool:
    """Whether a conversion into this folder was stopped on its way."""
    return (dst / WORK_FOLDER / _ARGUMENTS).is_file()


def _figures(found: Mapping[str, Any]) -> Figures:
    errors = {method: WeightError(**sums) for method, sums in found["errors"].items()}
    return Figures(errors, found["digests"])

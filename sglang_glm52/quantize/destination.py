"""Where a conversion may write: an empty folder, or one in which the same conversion was begun."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from sglang_glm52.errors import CapacityError, ConfigError
from sglang_glm52.quantize.plot import PICTURE_FILE
from sglang_glm52.quantize.progress import GB
from sglang_glm52.quantize.report import REPORT_FILE
from sglang_glm52.quantize.resume import TEMPORARY, WORK_FOLDER, has_begun


def check_destination(src: Path, dst: Path, own_files: Iterable[str]) -> None:
    """ConfigError if `dst` overlaps `src` or holds files that the conversion does not write."""
    source, output = src.resolve(), dst.resolve()
    if output == source or source in output.parents or output in source.parents:
        raise ConfigError(f"{dst} and {src} lie in one another; name an output folder beside the checkpoint")
    if dst.exists() and not dst.is_dir():
        raise ConfigError(f"{dst} is a file; name a folder for the output")
    begun = has_begun(dst) or (dst / REPORT_FILE).is_file()
    own = {WORK_FOLDER, *((REPORT_FILE, PICTURE_FILE, *own_files) if begun else ())}
    foreign = sorted(set(os.listdir(dst)) - own) if dst.exists() else []
    if foreign:
        listed = ", ".join(foreign[:5]) + (f" and {len(foreign) - 5} more" if len(foreign) > 5 else "")
        raise ConfigError(f"{dst} holds other files ({listed}); name an empty folder, or remove them first")


def check_space(dst: Path, sizes: Mapping[str, int]) -> None:
    """CapacityError if the disk under `dst` has no room for those files of `sizes` that are not there yet."""
    needed = sum(size for name, size in sizes.items() if not has_size(dst / name, size))
    folder = dst.resolve()
    while not folder.exists():
        folder = folder.parent
    stale = sum(file.stat().st_size for file in (dst / WORK_FOLDER).glob(f"*{TEMPORARY}"))  # about to be removed
    free = shutil.disk_usage(folder).free + stale
    if free < needed:
        raise CapacityError(
            f"{dst} needs {needed / GB:.2f} GB more, its disk has {free / GB:.2f} GB free; "
            f"make room, or name a folder on another disk"
        )


def has_size(file: Path, size: int) -> bool:
    """Whether a file is there and has this many bytes."""
    return file.is_file() and file.stat().st_size == size

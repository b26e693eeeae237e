"""Files that appear whole or not at all, also after kill -9 and power cuts."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sglang_glm52.errors import CapacityError, ConfigError

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def write_whole(file: Path, data: bytes, temporary: Path) -> None:
    """Write `file` by way of `temporary`, a name on the same file system."""
    with temporary.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    rename_whole(temporary, file)


def rename_whole(temporary: Path, file: Path) -> None:
    """Give a synced file its final name, for good."""
    temporary.replace(file)
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and new names in a folder outlast a power cut."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def disk_errors_named(folder: Path) -> Iterator[None]:
    """Say in the package's words that a disk is full (CapacityError) or a file may not be used (ConfigError)."""
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        if error.errno in _NO_SPACE:
            raise CapacityError(
                f"{where}: {error.strerror}; make room and give the same command again, it goes on where it stopped"
            ) from error
        if error.errno in _FORBIDDEN:
            raise ConfigError(
                f"{where}: {error.strerror}; check that you may read the checkpoint and write the output"
            ) from error
        raise

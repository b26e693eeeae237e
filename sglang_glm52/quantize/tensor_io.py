"""The bytes of single tensors: read from shards, written into one. Whole shards never are in memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from types import TracebackType

import torch

from sglang_glm52.errors import CheckpointError
from sglang_glm52.formats.fp8_block import BLOCK
from sglang_glm52.quantize.shards import Layout, TensorInfo
from sglang_glm52.quantize.source import Located

TORCH_TYPES = {
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F8_E4M3": torch.float8_e4m3fn,
    "I8": torch.int8,
}
CHUNK_BYTES = 8 << 20
DIGEST_DIGITS = 32
_WRITE_OUT_BYTES = 1 << 20  # parts from this size on are sent to the disk at once
# Elements in one slab: with its float32 forms it costs a worker some 50 MB on a CPU; on a GPU under a GB of its memory
# and up to 64 MB of pinned memory.
_CPU_SLAB, _GPU_SLAB = 1 << 21, 1 << 24


def slabs(info: TensorInfo, device: torch.device) -> Iterator[range]:
    """Row ranges of a matrix, cut at FP8 blocks."""
    rows, cols = info.shape
    step = max(1, (_CPU_SLAB if device.type == "cpu" else _GPU_SLAB) // cols // BLOCK) * BLOCK
    return (range(first, min(first + step, rows)) for first in range(0, rows, step))


def chunks(info: TensorInfo) -> Iterator[range]:
    """Byte ranges of a tensor."""
    return (range(first, min(first + CHUNK_BYTES, info.nbytes)) for first in range(0, info.nbytes, CHUNK_BYTES))


class TensorReader:
    """Reads tensors that lie in the files of one folder. Threads may share it."""

    def __init__(
        self, folder: Path, tensors: Mapping[str, Located], on_read: Callable[[int], None] | None = None
    ) -> None:
        self._folder, self._tensors, self._on_read = folder, tensors, on_read
        self._files: dict[str, int] = {}
        self._lock, self._stack = Lock(), ExitStack()

    def __enter__(self) -> TensorReader:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def info(self, name: str) -> TensorInfo:
        return self._tensors[name].info

    def read(self, name: str, where: range, into: torch.Tensor | None = None) -> torch.Tensor:
        """The bytes `where` of a tensor, as uint8; CheckpointError if the file has become shorter.

        Args:
            into: a uint8 vector of that length to read into and return; by default a new one.
        """
        located = self._tensors[name]
        data = torch.empty(len(where), dtype=torch.uint8) if into is None else into
        view, done = memoryview(data.numpy()), 0
        while done < len(where):
            count = os.preadv(self._file(located.file), [view[done:]], located.offset + where.start + done)
            if count == 0:
                raise CheckpointError(f"{self._folder / located.file} ends within {name}: it was cut while it was read")
            done += count
        if self._on_read is not None:
            self._on_read(done)
        return data

    def rows(self, name: str, rows: range, buffer: Callable[[int], torch.Tensor] | None = None) -> torch.Tensor:
        """Rows of a matrix, in its type; in `buffer(number of bytes)` if that is given."""
        info = self.info(name)
        row_bytes = info.nbytes // info.shape[0]
        where = range(rows.start * row_bytes, rows.stop * row_bytes)
        data = self.read(name, where, None if buffer is None else buffer(len(where)))
        return data.view(TORCH_TYPES[info.dtype]).view(len(rows), -1)

    def matrix(self, name: str) -> torch.Tensor:
        return self.rows(name, range(self.info(name).shape[0]))

    def _file(self, file: str) -> int:
        with self._lock:
            if file not in self._files:
                stream = self._stack.enter_context((self._folder / file).open("rb", buffering=0))
                self._files[file] = stream.fileno()
            return self._files[file]


class ShardWriter:
    """Fills one file, tensor by tensor in any order. Threads may share it."""

    def __init__(self, file: Path, layout: Layout) -> None:
        self._layout = layout
        self._fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            write_all(self._fd, memoryview(layout.header), 0)
        except OSError:
            os.close(self._fd)
            raise

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if error is None:
                os.fsync(self._fd)
        finally:
            os.close(self._fd)

    def tensor(self, name: str) -> TensorWriter:
        return TensorWriter(self._fd, self._layout.offsets[name])


class Digest:
    """A hash of a tensor's bytes, SHA-256 cut to 128 bits."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def update(self, data: memoryview) -> None:
        self._hash.update(data)

    @property
    def text(self) -> str:
        return self._hash.hexdigest()[:DIGEST_DIGITS]


class TensorWriter:
    """Writes one tensor from its first byte to its last."""

    def __init__(self, fd: int, offset: int) -> None:
        self._fd, self._position = fd, offset
        self._digest = Digest()

    def append(self, part: torch.Tensor) -> None:
        """The next rows, or bytes."""
        data = raw_bytes(part)
        write_all(self._fd, data, self._position)
        if len(data) >= _WRITE_OUT_BYTES:
            # Starts the writing and does not wait for it, so that little is left for the sync at the shard's end.
            os.posix_fadvise(self._fd, self._position, len(data), os.POSIX_FADV_DONTNEED)
        self._position += len(data)
        self._digest.update(data)

    @property
    def digest(self) -> str:
        """Of all that was appended."""
        return self._digest.text


def raw_bytes(tensor: torch.Tensor) -> memoryview:
    return memoryview(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())


def write_all(fd: int, data: memoryview, position: int) -> None:
    """Write at `position`; the system may take less at a time."""
    while data:
        count = os.pwrite(fd, data, position)
        data, position = data[count:], position + count

"""Safetensors files without their tensors: headers read and checked, headers laid out.

A file is eight bytes with the length of the header (little endian), the header (JSON, padded with spaces to a multiple
of eight), then the tensors' bytes, back to back. Files laid out here are byte for byte what `safetensors` writes, but
each tensor's place is known before its values are, so that a file can be filled in any order.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sglang_glm52.errors import CheckpointError

INDEX_FILE = "model.safetensors.index.json"
# In the order safetensors gives them: it stores wide types first, so that every tensor starts aligned.
_NARROW_FIRST = (
    ("BOOL", 1),
    ("U8", 1),
    ("I8", 1),
    ("F8_E5M2", 1),
    ("F8_E4M3", 1),
    ("I16", 2),
    ("U16", 2),
    ("F16", 2),
    ("BF16", 2),
    ("I32", 4),
    ("U32", 4),
    ("F32", 4),
    ("F64", 8),
    ("I64", 8),
    ("U64", 8),
)
ITEM_BYTES = dict(_NARROW_FIRST)
_RANK = {dtype: rank for rank, (dtype, _) in enumerate(_NARROW_FIRST)}
_LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """What a header says about a tensor. `dtype` in the spelling of safetensors: "BF16", "F8_E4M3", ..."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything lies in one file."""

    header: bytes  # with the length before it and the padding after it
    offsets: Mapping[str, int]  # tensor -> its first byte, counted from the start of the file
    file_bytes: int


def lay_out(tensors: Iterable[TensorInfo]) -> Layout:
    """The file that holds `tensors`, in the order that safetensors gives them: wide types first, then by name."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # transformers wants the format named
    ends, end = {}, 0
    for info in sorted(tensors, key=lambda info: (-_RANK[info.dtype], info.name)):
        header[info.name] = {
            "dtype": info.dtype,
            "shape": list(info.shape),
            "data_offsets": [end, end + info.nbytes],
        }
        ends[info.name] = end
        end += info.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = _LENGTH_BYTES + len(text)
    return Layout(
        header=len(text).to_bytes(_LENGTH_BYTES, "little") + text,
        offsets={name: data + start for name, start in ends.items()},
        file_bytes=data + end,
    )


def read_header(file: Path) -> list[tuple[TensorInfo, int]]:
    """(tensor, its first byte counted from the start of the file) for every tensor, in the order they lie.

    Raises:
        CheckpointError: the file is cut short, longer than its tensors, or its header contradicts itself.
    """
    file_bytes = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        data = _LENGTH_BYTES + length
        if data > file_bytes:
            raise CheckpointError(
                f"{file} has {file_bytes} bytes, and its header alone needs {data}: download it again"
            )
        header = _parse(stream.read(length), file)
    placed = sorted((_tensor(name, entry, file) for name, entry in header.items()), key=lambda one: one[1:])
    end = 0
    for info, start, stop in placed:
        if start != end or stop - start != info.nbytes:
            raise CheckpointError(
                f"{file}: {info.name} {info.dtype} {list(info.shape)} lies at bytes {start} to {stop}, "
                f"expected {end} to {end + info.nbytes}: download it again"
            )
        end = stop
    if data + end != file_bytes:
        raise CheckpointError(f"{file} has {file_bytes} bytes, its header says {data + end}: download it again")
    return [(info, data + start) for info, start, _ in placed]


def _parse(text: bytes, file: Path) -> dict[str, Any]:
    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise CheckpointError(f"{file} lists {twice} twice: write it again with each name once")
        return found

    try:
        header = json.loads(text, object_pairs_hook=no_duplicates)
    except CheckpointError:  # a ValueError too
        raise
    except ValueError as error:
        raise CheckpointError(f"{file} has no safetensors header ({error}): download it again") from error
    if not isinstance(header, dict):
        raise CheckpointError(
            f"{file} has a {type(header).__name__} for a header, expected an object: download it again"
        )
    header.pop("__metadata__", None)
    return header


def _tensor(name: str, entry: Any, file: Path) -> tuple[TensorInfo, int, int]:
    try:
        info = TensorInfo(name, entry["dtype"], tuple(map(int, entry["shape"])))
        start, stop = map(int, entry["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{file} describes {name} as {entry!r}, expected dtype, shape and data_offsets: download it again"
        ) from error
    if info.dtype not in ITEM_BYTES:
        raise CheckpointError(f"{file}: {name} is {info.dtype}, a type this tool does not know; convert it to BF16")
    return info, start, stop

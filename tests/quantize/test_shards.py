from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from sglang_glm52.errors import CheckpointError
from sglang_glm52.quantize.shards import ITEM_BYTES, TensorInfo, lay_out, read_header

TYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3": torch.float8_e4m3fn,
    "I16": torch.int16,
    "U16": torch.uint16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I32": torch.int32,
    "U32": torch.uint32,
    "F32": torch.float32,
    "F64": torch.float64,
    "I64": torch.int64,
    "U64": torch.uint64,
}
INFOS = st.builds(
    TensorInfo,
    name=st.text("abc.", min_size=1, max_size=6),
    dtype=st.sampled_from(sorted(TYPES)),
    shape=st.lists(st.integers(0, 5), max_size=3).map(tuple),
)


@settings(deadline=None)
@given(st.lists(INFOS, unique_by=lambda info: info.name))
def test_headers_are_those_that_safetensors_writes(infos):
    tensors = {info.name: torch.zeros(info.shape, dtype=TYPES[info.dtype]) for info in infos}
    written = save(tensors, metadata={"format": "pt"})
    layout = lay_out(infos)
    assert layout.file_bytes == len(written) and written.startswith(layout.header)


def test_every_type_has_its_size():
    assert {name: dtype.itemsize for name, dtype in TYPES.items()} == ITEM_BYTES


def test_a_header_is_read_back(tmp_path):
    tensors = {"b": torch.ones(2, 3), "a": torch.ones(4, dtype=torch.int8), "none": torch.ones(0, 7)}
    save_file(tensors, tmp_path / "x.safetensors")
    data = (tmp_path / "x.safetensors").read_bytes()
    found = {info.name: (info, offset) for info, offset in read_header(tmp_path / "x.safetensors")}
    assert {name: info.shape for name, (info, _) in found.items()} == {"b": (2, 3), "a": (4,), "none": (0, 7)}
    offset = found["b"][1]
    assert data[offset : offset + 24] == tensors["b"].numpy().tobytes()


def test_a_header_without_tensors(tmp_path):
    save_file({}, tmp_path / "x.safetensors")
    assert read_header(tmp_path / "x.safetensors") == []


@pytest.mark.parametrize("size", range(0, 8))
def test_a_file_that_ends_within_the_length(tmp_path, size):
    (tmp_path / "x.safetensors").write_bytes(b"\0" * size)
    with pytest.raises(CheckpointError, match=f"has {size} bytes, and its header alone needs 8"):
        read_header(tmp_path / "x.safetensors")

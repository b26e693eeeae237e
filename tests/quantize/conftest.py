"""Checkpoints and their conversions, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from quantize.checkpoints import OVERRIDES

from sglang_glm52.quantize.convert import convert
from sglang_glm52.tiny import build, builder

NUM_SHARDS = 5  # so that a conversion can be stopped between them; partners lie in different ones


def make(folder: Path, fmt: str, **changes: object) -> Path:
    seed = changes.pop("seed", 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builder, "MIN_SHARDS", NUM_SHARDS)
        return build(folder, fmt=fmt, seed=seed, overrides=OVERRIDES | changes)


@pytest.fixture(scope="session")
def fp8(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("source") / "fp8", "fp8")


@pytest.fixture(scope="session")
def bf16(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("source") / "bf16", "bf16")


@pytest.fixture(scope="session")
def from_fp8(fp8, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("output") / "fp8"
    convert(fp8, out, device="cpu", workers=1)
    return out


@pytest.fixture(scope="session")
def from_bf16(bf16, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("output") / "bf16"
    convert(bf16, out, device="cpu", workers=1)
    return out


@pytest.fixture
def make_checkpoint(tmp_path):
    """make_checkpoint("fp8", field=value, ...) builds one more."""
    return lambda fmt, **changes: make(tmp_path / "made", fmt, **changes)

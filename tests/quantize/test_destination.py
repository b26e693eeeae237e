"""Where the output may go, and that the disk must have room for it."""

from __future__ import annotations

import os
import shutil
from types import SimpleNamespace

import pytest
from quantize.checkpoints import contents, copy

from sglang_glm52.errors import CapacityError, ConfigError
from sglang_glm52.quantize.convert import convert


def refused(src, dst, error, message):
    before = contents(src)
    with pytest.raises(error, match=message):
        convert(src, dst, device="cpu")
    assert contents(src) == before


@pytest.mark.parametrize("where", [".", "out", "deep/down"])
def test_not_in_the_source(fp8, tmp_path, where):
    source = copy(fp8, tmp_path / "source")
    refused(source, source / where, ConfigError, "lie in one another; name an output folder beside")


def test_not_around_the_source(fp8, tmp_path):
    refused(copy(fp8, tmp_path / "out" / "source"), tmp_path / "out", ConfigError, "lie in one another")


def test_not_in_the_source_by_another_name(fp8, tmp_path):
    source = copy(fp8, tmp_path / "source")
    (tmp_path / "link").symlink_to(source)
    refused(source, tmp_path / "link" / "out", ConfigError, "lie in one another")


@pytest.mark.parametrize("name", ["notes.txt", "config.json", "model-00001-of-00005.safetensors"])
def test_a_folder_with_other_files_is_left_alone(fp8, tmp_path, name):
    """Also those that a conversion would write: nothing says that it has begun here."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    refused(fp8, tmp_path / "out", ConfigError, rf"holds other files \({name}\); name an empty folder")
    assert contents(tmp_path / "out") == {name: b"mine"}


def test_not_a_file(fp8, tmp_path):
    (tmp_path / "out").write_text("mine")
    refused(fp8, tmp_path / "out", ConfigError, "is a file; name a folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_not_where_nothing_may_be_written(fp8, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o555)
    refused(fp8, tmp_path / "closed" / "out", ConfigError, "Permission denied; check that")


def test_an_empty_folder_and_a_missing_parent_are_fine(fp8, from_fp8, tmp_path):
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "a" / "b"):
        convert(fp8, out, device="cpu")
        assert contents(out) == contents(from_fp8)


def test_a_disk_without_room_is_refused_before_anything_is_written(fp8, from_fp8, tmp_path, monkeypatch):
    needed = sum(file.stat().st_size for file in from_fp8.iterdir() if not file.name.startswith("quantize_"))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=needed - 1))
    refused(fp8, tmp_path / "out", CapacityError, r"needs 0\.00 GB more, its disk has 0\.00 GB free; make room")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=needed))
    convert(fp8, tmp_path / "out", device="cpu")

"""`glm52 quantize` and `glm52 verify` as a user meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from quantize.checkpoints import EXPERT, contents, copy, flip_byte

from sglang_glm52 import cli
from sglang_glm52.quantize.plot import PICTURE_FILE


@pytest.fixture(autouse=True)
def commands(monkeypatch):
    ours = {name: (f"sglang_glm52.commands.{name}", "a test") for name in ("quantize", "verify")}
    monkeypatch.setattr(cli, "COMMANDS", cli.COMMANDS | ours)


def glm52(*arguments: object) -> int:
    return cli.main(list(map(str, arguments)))


def checkpoint_bytes(out: Path) -> int:
    return sum(file.stat().st_size for file in out.iterdir() if file.name not in ("quantize_report.json", PICTURE_FILE))


@pytest.mark.parametrize("fmt", ["fp8", "bf16"])
def test_a_dry_run_knows_the_size_to_the_byte_and_writes_nothing(fmt, request, tmp_path, capsys):
    source = request.getfixturevalue(fmt)
    assert glm52("quantize", source, tmp_path / "out", "--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert not (tmp_path / "out").exists()
    assert glm52("quantize", source, tmp_path / "out", "--device", "cpu") == 0
    assert plan["output_bytes"] == checkpoint_bytes(tmp_path / "out")
    assert plan["files"] == {name: (tmp_path / "out" / name).stat().st_size for name in plan["files"]}
    assert plan["form"] == fmt and plan["has_weights"]


def test_a_dry_run_shows_what_becomes_of_each_group(fp8, tmp_path, capsys):
    assert glm52("quantize", fp8, tmp_path / "out", "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    table = {row[0]: row for row in cells[2:]}
    assert table["routed experts"][1:4] == ["12", "F8_E4M3 + F32", "I8 + BF16"]
    assert table["MTP routed experts"][-1] == "to int4 groups"
    groups = ("embeddings and head", "norms", "attention", "indexer", "dense MLP", "router", "shared experts")
    assert all(table[group][-1] == "copied" for group in groups)
    assert lines[-1].startswith("output: 11 files, ")


def test_a_dry_run_of_a_config_alone_says_so(fp8, tmp_path, capsys):
    (tmp_path / "config.json").write_bytes((fp8 / "config.json").read_bytes())
    assert glm52("quantize", tmp_path, tmp_path / "out", "--dry-run") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("counted from config.json alone")


def test_the_summary_gives_both_methods_by_layer_and_projection(fp8, tmp_path, capsys):
    assert glm52("quantize", fp8, tmp_path / "out", "--method", "rtn", "--device", "cpu", "--workers", "1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "relative error of the int4 experts, %; written with rtn"
    head, _, *body = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|"))
    assert head == ["layer", "gate rtn", "gate mse", "up rtn", "up mse", "down rtn", "down mse"]
    assert [row[0] for row in body] == ["1", "2", "all"]
    for row in body:
        pairs = zip(map(float, row[1::2]), map(float, row[2::2]), strict=True)
        assert all(9 < mse < rtn < 13 for rtn, mse in pairs)


def test_json_is_all_of_stdout(fp8, bf16, tmp_path, capsys):
    assert glm52("quantize", bf16, tmp_path / "out", "--device", "cpu", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["arguments"]["method"] == "mse" and report["output"]["file_bytes"] == checkpoint_bytes(
        tmp_path / "out"
    )
    assert 0.02 < report["fp8_error"] < 0.03
    assert glm52("verify", bf16, tmp_path / "out", "--json") == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True


def test_verify_ends_with_0_or_1(fp8, from_fp8, tmp_path, capsys):
    assert glm52("verify", fp8, from_fp8) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "all holds"
    out = copy(from_fp8, tmp_path / "out")
    flip_byte(out, EXPERT)
    assert glm52("verify", fp8, out) == 1
    assert f"problem: changed: {EXPERT} is not what was written" in capsys.readouterr().out
    assert glm52("verify", fp8, out, "--json") == 1
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["ok"] is False and verdict["problems"]


def test_a_mistake_is_one_line_and_status_2(fp8, tmp_path, capsys):
    assert glm52("quantize", fp8, fp8 / "out") == 2
    assert glm52("quantize", tmp_path, tmp_path / "out") == 2
    assert glm52("verify", fp8, tmp_path / "out") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and all(line.startswith(("glm52 quantize: ", "glm52 verify: ")) for line in lines)


def test_without_matplotlib_it_is_said_once(fp8, from_fp8, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert glm52("quantize", fp8, tmp_path / "out", "--device", "cpu") == 0
    said = "no quantize_error.png: matplotlib is not installed; pip install 'sglang-glm52[plot]'"
    assert capsys.readouterr().err.splitlines().count(said) == 1
    assert contents(tmp_path / "out") == contents(from_fp8)


def test_with_matplotlib_there_is_a_picture(fp8, tmp_path):
    for out in (tmp_path / "one", tmp_path / "two"):
        assert glm52("quantize", fp8, out, "--device", "cpu") == 0
    picture = (tmp_path / "one" / PICTURE_FILE).read_bytes()
    assert picture.startswith(b"\x89PNG") and picture == (tmp_path / "two" / PICTURE_FILE).read_bytes()
    (tmp_path / "two" / PICTURE_FILE).unlink()
    assert glm52("quantize", fp8, tmp_path / "two") == 0  # drawn from the report of the finished output
    assert (tmp_path / "two" / PICTURE_FILE).read_bytes() == picture


def test_help_imports_no_torch():
    code = """
import argparse, sys
from sglang_glm52.commands import quantize, verify
for module in (quantize, verify):
    module.add_arguments(argparse.ArgumentParser())
print(sorted({"torch", "sglang"} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"

"""`glm52 bench moe` as far as it goes without a GPU."""

from __future__ import annotations

import argparse
import json

import pytest
import torch
from bench.moe_made_up import made_up

from sglang_glm52.bench.moe_options import TOKENS, add_arguments, check, contender_names
from sglang_glm52.cli import main
from sglang_glm52.errors import ConfigError


def parse(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_arguments(parser)
    return parser.parse_args(argv)


def test_everyone_is_measured_ours_first():
    args = parse()
    assert args.tokens == TOKENS
    names = ["ours", "host", "humming-w4a8", "humming-w4a16", "fp8-triton", "marlin"]
    assert contender_names(args) == names
    assert contender_names(parse("--tune")) == ["ours", "decode", "grouped", *names[1:]]
    assert contender_names(parse("--tune", "--which", "host")) == ["decode", "grouped", "host"]
    assert contender_names(parse("--which", "humming,ours")) == ["ours", "humming-w4a8", "humming-w4a16"]


def test_numbers_of_tokens_are_sorted():
    assert parse("--tokens", "64,1,2048").tokens == (1, 64, 2048)


@pytest.mark.parametrize("argv", [("--tokens", "0,1"), ("--tokens", "4,4"), ("--which", "ours,cutlass")])
def test_bad_lists_are_refused(argv):
    with pytest.raises(argparse.ArgumentError, match="expected"):
        parse(*argv)


@pytest.mark.parametrize(
    "argv, message",
    [
        (("--inner", "200"), "--inner 200: expected a multiple of 128"),
        (("--out", "/nowhere/moe.json"), "--out .*there is no folder /nowhere"),
        (("--from", "/nowhere/moe.json"), "--from .*there is no such file"),
    ],
)
def test_bad_options_are_refused_before_anything_is_measured(argv, message):
    with pytest.raises(ConfigError, match=message):
        check(parse(*argv))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_without_a_gpu_it_says_what_it_needs(capsys):
    assert main(["bench", "moe"]) == 2
    assert "no CUDA GPU was found" in capsys.readouterr().err


def test_a_file_of_another_kind_is_refused(tmp_path, capsys):
    (tmp_path / "other.json").write_text('{"results": 1}')
    assert main(["bench", "moe", "--from", str(tmp_path / "other.json")]) == 2
    assert "not a file that `glm52 bench moe --out` wrote" in capsys.readouterr().err


def test_a_measured_run_can_be_reported_and_drawn_again(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    made_up().write(tmp_path / "moe.json")
    assert main(["bench", "moe", "--from", str(tmp_path / "moe.json"), "--plot", str(tmp_path / "moe.png")]) == 0
    *text, last = capsys.readouterr().out.splitlines()
    assert json.loads(last)["results"]["us"]["ours"]["64"] == 200.0
    assert "us a call" in text and (tmp_path / "moe.png").stat().st_size > 10_000

import argparse
import sys
from importlib.metadata import entry_points

import pytest
import torch

from sglang_glm52.bench import shard
from sglang_glm52.bench.shard import run, worker_environ
from sglang_glm52.bench.shard_options import add_arguments, settings
from sglang_glm52.cli import main
from sglang_glm52.errors import ConfigError

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")


def parse(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(argv)


def test_the_defaults_are_the_whole_shard():
    found = settings(parse())
    assert found["layers"] == 78 and found["batch"] == (1, 16) and found["context"] == 4096
    assert found["which"] == ("host", "ours") and found["format"] == "fp8" and found["kv"] == "fp8_e4m3"


def test_lists_are_read():
    args = parse("--batch", "1,4,16", "--which", "ours")
    assert args.batch == (1, 4, 16) and args.which == ("ours",)


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["--batch", "0"], "expected a positive number"),
        (["--batch", "1,1"], "stands twice"),
        (["--batch", "one"], "invalid"),
        (["--which", "theirs"], "expected host or ours"),
        (["--context", "-1"], "expected a positive number"),
        (["--kv", "fp4"], "invalid choice"),
        (["--speculative", "3-1-4,3-1-4"], "stands twice"),
        (["--speculative", "3-2-4"], "use 3-1-4"),
    ],
)
def test_a_bad_option_is_a_usage_error(argv, complaint, capsys):
    with pytest.raises(SystemExit) as exit_status:
        parse(*argv)
    assert exit_status.value.code == 2 and complaint in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--context", "--chunk"])
def test_more_tokens_than_the_window_are_refused(option):
    with pytest.raises(ConfigError, match=f"{option} 1048576: GLM-5.2's window leaves room for 10485.."):
        run(parse(option, "1048576"))


def test_what_would_fail_after_the_measurement_is_refused_before_it(tmp_path):
    with pytest.raises(ConfigError, match="--batch 16: expected at most the 8 tokens of --chunk"):
        run(parse("--chunk", "8"))
    with pytest.raises(ConfigError, match="there is no folder .*missing; create it first"):
        run(parse("--out", str(tmp_path / "missing" / "out.json")))


def test_settings_of_rounds_are_read():
    args = parse("--speculative", "1-1-2,3-1-4")  # an engine that starts with 1-1-2 hung on larger settings
    assert [str(each) for each in args.speculative] == ["3-1-4", "1-1-2"]
    assert settings(args)["speculative"] == ["3-1-4", "1-1-2"] and settings(parse())["speculative"] == []


def test_a_picture_needs_rounds_at_batch_1(tmp_path):
    plot = ["--plot", str(tmp_path / "a.png")]
    for argv in (plot, [*plot, "--speculative", "3-1-4", "--batch", "16"]):
        with pytest.raises(ConfigError, match="--plot draws rounds at batch 1; add --speculative 3-1-4"):
            run(parse(*argv))


def test_a_picture_needs_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"pip install 'sglang-glm52\[plot\]'"):
        run(parse("--plot", str(tmp_path / "a.png"), "--speculative", "3-1-4"))


@without_gpu
def test_without_a_gpu_the_command_says_so_and_exits_with_2(capsys):
    assert main(["bench", "shard"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and "no CUDA GPU was found" in captured.err


def test_each_class_gets_its_plugins():
    """The host's process must match no installed plugin, ours exactly this package's entry point."""
    names = {point.name for point in entry_points(group="sglang.srt.plugins")}
    ours, host = (worker_environ(which, {"SGLANG_PLUGINS": "x"})["SGLANG_PLUGINS"] for which in ("ours", "host"))
    assert host and host not in names
    [point] = entry_points(group="sglang.srt.plugins", name=ours)
    assert point.value == "sglang_glm52.plugin:register"


def test_the_users_environment_wins_over_the_benchs_defaults():
    assert worker_environ("host", {})["SGLANG_JIT_DEEPGEMM_PRECOMPILE"] == "0"
    assert worker_environ("host", {"SGLANG_JIT_DEEPGEMM_PRECOMPILE": "1"})["SGLANG_JIT_DEEPGEMM_PRECOMPILE"] == "1"
    assert worker_environ("host", {"HOME": "/root"})["HOME"] == "/root"


@without_gpu
@pytest.mark.parametrize("speculative", [[], ["--speculative", "3-1-4"]])
def test_a_measuring_process_that_fails_ends_the_command(speculative, monkeypatch, capsys, tmp_path):
    """Past the check for a GPU the worker itself fails for want of one."""
    monkeypatch.setattr(shard, "_gpu_gb", lambda: 150.0)
    assert run(parse("--layers", "4", "--out", str(tmp_path / "out.json"), *speculative)) == 1
    captured = capsys.readouterr()
    assert "measuring host failed with exit status 1" in captured.err and captured.out == ""
    assert not (tmp_path / "out.json").exists()

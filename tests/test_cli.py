"""The `glm52` command: dispatch and how errors end."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sglang_glm52 import cli
from sglang_glm52.errors import CapacityError, CheckpointError, ConfigError, HostMismatchError

SUBCOMMAND = """
    from sglang_glm52 import errors

    def add_arguments(parser):
        parser.add_argument("--raise", dest="error")
        parser.add_argument("--status", type=int, default=0)

    def run(args):
        if args.error == "KeyboardInterrupt":
            raise KeyboardInterrupt
        if args.error:
            raise getattr(errors, args.error)("found 3, expected 4; use --four")
        return args.status
"""


@pytest.fixture
def subcommand(write_module, monkeypatch):
    write_module("subcommand_stand_in", SUBCOMMAND)
    monkeypatch.setattr(cli, "COMMANDS", {"try": ("subcommand_stand_in", "a test"), **cli.COMMANDS})


@pytest.mark.usefixtures("subcommand")
@pytest.mark.parametrize("error", [CapacityError, CheckpointError, ConfigError, HostMismatchError])
def test_an_expected_error_is_one_line_and_status_2(error, capsys):
    assert cli.main(["try", "--raise", error.__name__]) == 2
    captured = capsys.readouterr()
    assert captured.err == "glm52 try: found 3, expected 4; use --four\n" and captured.out == ""


@pytest.mark.usefixtures("subcommand")
def test_the_exit_status_is_the_subcommands():
    assert cli.main(["try", "--status", "7"]) == 7


@pytest.mark.usefixtures("subcommand")
def test_ctrl_c_ends_without_a_traceback(capsys):
    assert cli.main(["try", "--raise", "KeyboardInterrupt"]) == 130
    assert capsys.readouterr().err == "glm52 try: interrupted\n"


@pytest.mark.parametrize("argv", [[], ["no-such-command"]])
def test_a_wrong_command_prints_the_usage(argv, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(argv)
    assert stopped.value.code == 2 and "usage: glm52" in capsys.readouterr().err


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_subcommand_prints_its_help(command):
    done = subprocess.run([sys.executable, "-m", "sglang_glm52.cli", command, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and f"usage: glm52 {command}" in done.stdout, done.stderr


def test_help_imports_nothing_heavy():
    code = """
import sys
from sglang_glm52 import cli
cli._parse(["doctor"])
print(sorted({"torch", "sglang"} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"

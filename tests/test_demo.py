"""`glm52 demo` as a user runs it, and as an impatient user stops it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

DEMO = [sys.executable, "-m", "sglang_glm52.cli", "demo"]


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def group_members(group: int) -> list[str]:
    """Command lines of the processes in a group, without zombies."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, process_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(process_group) == group and state != "Z":
                members.append(stat.with_name("cmdline").read_text().replace("\0", " "))
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
    return members


def wait_for_server(demo: subprocess.Popen, num_processes: int) -> int:
    """The server's process group, once it has so many processes."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for group in children(demo.pid):
            if len(group_members(group)) >= num_processes:
                return group
        time.sleep(0.1)
    raise AssertionError("the server was not started")


def test_the_demo_serves_answers_and_cleans_up(tmp_path):
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([*DEMO, "--max-tokens", "8"], env=environ, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "in effect on SGLang" in done.stdout and "cpu_attention" in done.stdout
    assert '"completion_tokens": 8' in done.stdout and "tokens in, 8 out" in done.stdout
    assert done.stdout.endswith("6. server stopped, files removed\n")
    assert not list(tmp_path.glob("glm52-demo-*"))


@pytest.mark.parametrize(
    ("number", "num_processes"), [(signal.SIGINT, 1), (signal.SIGTERM, 3)], ids=["ctrl-c-early", "terminated-late"]
)
def test_an_interrupted_demo_leaves_nothing_behind(tmp_path, number, num_processes):
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(DEMO, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        group = wait_for_server(demo, num_processes)
        demo.send_signal(number)
        _, errors = demo.communicate(timeout=60)
    assert demo.returncode == 130 and errors.endswith("glm52 demo: interrupted\n"), errors
    assert group_members(group) == []
    assert not list(tmp_path.glob("glm52-demo-*"))


def test_a_server_that_takes_too_long_is_reported_and_stopped():
    done = subprocess.run([*DEMO, "--timeout", "1"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "glm52 demo: no healthy server after" in done.stderr and "Traceback" not in done.stderr

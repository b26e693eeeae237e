"""The server launcher, on a stand-in whose child ignores SIGTERM."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from sglang_glm52.testing import server
from sglang_glm52.testing.engine import EngineError, run_engine
from sglang_glm52.testing.process_group import interrupted_by
from sglang_glm52.testing.server import ServerError, free_port, launch_command, running_server

FAKE = Path(__file__).with_name("fake_server.py")


@contextlib.contextmanager
def fake_server(folder: Path, behaviour: str, **options):
    port = free_port()
    command = [sys.executable, str(FAKE), str(port), behaviour, str(folder / "child")]
    with running_server(command, port, log=folder / "log", grace_seconds=0.3, **options) as server:
        yield server


def is_running(file: Path) -> bool:
    stat = Path("/proc", file.read_text(), "stat")
    return stat.exists() and stat.read_text().split()[2] != "Z"


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 30
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < deadline, f"{file} was not written"
        time.sleep(0.05)


def test_a_server_answers_and_is_gone_after_the_block(tmp_path):
    with fake_server(tmp_path, "healthy") as server:
        assert server.get("/") == b"ok"
        assert server.post("/generate", {"text": "a"}) == {"path": "/generate", "body": {"text": "a"}}
        assert list(server.stream("/generate", {"stream": True})) == [{"n": 1}, {"n": 2}]
        assert "weights loaded" in server.tail() and is_running(tmp_path / "child")
    assert not is_running(tmp_path / "child")


def test_a_failure_inside_the_block_ends_the_server(tmp_path):
    with pytest.raises(ZeroDivisionError), fake_server(tmp_path, "healthy"):
        raise ZeroDivisionError
    assert not is_running(tmp_path / "child")


def test_a_dying_server_is_reported_with_its_log(tmp_path):
    with pytest.raises(ServerError, match=r"status 1; its log ends:\nweights loaded\nno such checkpoint"):
        fake_server(tmp_path, "dying").__enter__()
    assert not is_running(tmp_path / "child")


def test_a_hanging_server_is_given_up_with_its_log(tmp_path):
    waits = []
    hanging = fake_server(tmp_path, "hanging", timeout_seconds=2, on_wait=lambda *wait: waits.append(wait))
    with pytest.raises(ServerError, match=r"(?s)no healthy server after 2 s.*weights loaded"):
        hanging.__enter__()
    assert not is_running(tmp_path / "child")
    assert waits[0][0] < waits[-1][0] and waits[-1][1] == "weights loaded"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_ends_the_server(tmp_path, number):
    port = free_port()
    script = f"""
import signal
from pathlib import Path
from sglang_glm52.testing.process_group import interrupted_by
from sglang_glm52.testing.server import running_server
command = {[sys.executable, str(FAKE), str(port), "hanging", str(tmp_path / "child")]!r}
log = Path({str(tmp_path / "log")!r})
with interrupted_by(signal.SIGTERM, signal.SIGHUP), running_server(command, {port}, log=log):
    pass
"""
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True) as runner:
        wait_for(tmp_path / "child")
        runner.send_signal(number)
        time.sleep(0.5)
        runner.send_signal(number)  # impatience: the clean-up must survive it
        assert "KeyboardInterrupt" in runner.communicate(timeout=30)[1]
    assert not is_running(tmp_path / "child")


def test_signal_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"), interrupted_by(signal.SIGTERM):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert signal.getsignal(signal.SIGTERM) is before


def test_ports_leave_room_for_the_hosts_offset():
    ports = {free_port() for _ in range(20)}
    assert len(ports) > 1 and max(ports) + 10000 <= 65535


def test_a_port_is_taken_if_one_is_that_the_host_derives_from_it(monkeypatch):
    """With DP attention two engines at the same time wanted the same: 30233 and the next five, whatever was free."""
    port = free_port()
    monkeypatch.setattr(server, "_PORTS", range(port, port + 1))
    with socket.socket() as other:
        other.bind(("127.0.0.1", port + 234))
        with pytest.raises(ServerError, match="no free port"):
            free_port()
    assert free_port() == port


def test_engines_get_ports_of_their_own(monkeypatch, tmp_path):
    ports = []
    with contextlib.ExitStack() as running:

        def run(command, **_):
            ports.append(json.loads(Path(command[3]).read_text())["engine"]["port"])
            running.enter_context(socket.socket()).bind(("127.0.0.1", ports[-1]))
            return SimpleNamespace(returncode=1, stdout="", stderr="")

        monkeypatch.setattr(subprocess, "run", run)
        for _ in range(3):
            with pytest.raises(EngineError):
                run_engine(tmp_path, [], device="cpu")
    assert len(set(ports)) == 3


def test_the_command_is_the_users():
    command = launch_command(Path("/models/glm"), 30000, ["--device", "cpu"])
    assert " ".join(command[1:]) == (
        "-m sglang.launch_server --model-path /models/glm --host 127.0.0.1 --port 30000 --device cpu"
    )

"""Start an SGLang server, wait until it answers, talk to it, stop it.

with running_server(launch_command(model, port, ["--device", "cpu"]), port, log=log) as server:
    server.post("/generate", {"text": "Hello"})
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sglang_glm52.testing.process_group import process_group

# The CPU engine, with threads that sleep while they wait: where several processes share a few cores, spinning threads
# make a tiny model's step several times as long.
CPU_ENVIRON = {"SGLANG_USE_CPU_ENGINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_WAIT_POLICY": "PASSIVE"}

_HOST = "127.0.0.1"
_PORTS = range(20000, 50000)  # SGLang adds 10000 for its gRPC port, which must not pass 65535
_OFFSETS = (0, *range(233, 239))  # SGLang's own with DP attention, where it tries no others (`PortArgs.init_new`)
_POLL_SECONDS = 0.5
_TAIL_LINES = 30
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy would not reach this machine


class ServerError(RuntimeError):
    """The server did not start, died or gave no answer; the message ends with its log."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server. HTTP errors raise urllib.error.HTTPError."""

    url: str
    log: Path
    process: subprocess.Popen

    def get(self, path: str, *, timeout_seconds: float = 60) -> bytes:
        """The body of a GET."""
        with _OPENER.open(self.url + path, timeout=timeout_seconds) as response:
            return response.read()

    def post(self, path: str, body: Mapping[str, Any], *, timeout_seconds: float = 300) -> Any:
        """The parsed JSON body of a POST of JSON."""
        with _OPENER.open(self._request(path, body), timeout=timeout_seconds) as response:
            return json.load(response)

    def stream(self, path: str, body: Mapping[str, Any], *, timeout_seconds: float = 300) -> Iterator[Any]:
        """The parsed events of a POST that is answered with server-sent events."""
        with _OPENER.open(self._request(path, body), timeout=timeout_seconds) as response:
            for line in response:
                data = line.decode().removeprefix("data:").strip()
                if data and data != "[DONE]":
                    yield json.loads(data)

    def tail(self) -> str:
        """The end of the server's log."""
        return "\n".join(_log_lines(self.log)[-_TAIL_LINES:])

    def _request(self, path: str, body: Mapping[str, Any]) -> urllib.request.Request:
        return urllib.request.Request(
            self.url + path, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
        )


def free_port() -> int:
    """A TCP port that SGLang takes, and on which nothing listens, nor on those that SGLang derives from it."""
    for port in random.sample(_PORTS, k=len(_PORTS)):
        if all(_is_free(port + offset) for offset in _OFFSETS):
            return port
    raise ServerError(f"no free port from {_PORTS.start} to {_PORTS.stop - 1}")


def _is_free(port: int) -> bool:
    with socket.socket() as listener, suppress(OSError):
        listener.bind((_HOST, port))
        return True
    return False


def launch_command(model_path: Path, port: int, options: Sequence[str]) -> list[str]:
    """The command a user would type, with this interpreter."""
    command = [sys.executable, "-m", "sglang.launch_server", "--model-path", str(model_path)]
    return [*command, "--host", _HOST, "--port", str(port), *options]


@contextmanager
def running_server(
    command: Sequence[str],
    port: int,
    *,
    log: Path,
    environ: Mapping[str, str] | None = None,
    timeout_seconds: float = 600,
    grace_seconds: float = 10,
    on_wait: Callable[[float, str], None] = lambda _seconds, _line: None,
) -> Iterator[Server]:
    """Run `command`, which serves on `port`, for the length of a `with` block; no process outlives the block.

    `environ` is added to this process's. `on_wait(seconds so far, last line of the log)` is called about twice a second
    until the server is healthy. At the end it has `grace_seconds` to stop by itself. Raises ServerError if it dies or
    is not healthy within `timeout_seconds`.
    """
    merged = {**os.environ, **(environ or {})}
    with process_group(command, environ=merged, log=log, grace_seconds=grace_seconds) as process:
        server = Server(f"http://{_HOST}:{port}", log, process)
        started = time.monotonic()
        while not _is_healthy(server):
            seconds = time.monotonic() - started
            if process.poll() is not None:
                raise ServerError(f"the server ended with status {process.returncode}; its log ends:\n{server.tail()}")
            if seconds > timeout_seconds:
                raise ServerError(f"no healthy server after {seconds:.0f} s; its log ends:\n{server.tail()}")
            on_wait(seconds, (_log_lines(log) or [""])[-1])
            time.sleep(_POLL_SECONDS)
        yield server


def _is_healthy(server: Server) -> bool:
    try:
        server.get("/health_generate", timeout_seconds=30)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
    return True


def _log_lines(log: Path) -> list[str]:
    return [line for line in log.read_text(errors="replace").splitlines() if line.strip()]

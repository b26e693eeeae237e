"""One server of `glm52 bench node`: start it, measure the phases that are missing, stop it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sglang_glm52.bench.node_load import LoadError, load_of, send
from sglang_glm52.bench.node_memory import memory_values
from sglang_glm52.bench.node_spec import MEMORY, START, NodeSpec
from sglang_glm52.bench.shard_spec import PACKAGES, PLUGINS, Which
from sglang_glm52.bench.speculation import Speculation
from sglang_glm52.bench.window_requests import random_prompt
from sglang_glm52.bench.window_spec import SPARE_TOKENS
from sglang_glm52.bench.window_worker import WARM_UP_NEW
from sglang_glm52.testing.server import Server, ServerError, free_port, launch_command, running_server

ERROR = "error"  # the name, in a row, of what went wrong instead of its values
_LAUNCH = ["-m", "sglang.launch_server"]
_SAY_EVERY_S = 30
_HEALTH_S = 120

Keep = Callable[[str, dict[str, Any]], None]  # phase, its values


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRun:
    """One class with one speculation."""

    spec: NodeSpec
    which: Which
    speculation: Speculation | None
    start_timeout: float
    phase_timeout: float

    def command(self, port: int) -> list[str]:
        python, *words = launch_command(Path(self.spec.model_dir), port, self.spec.server_flags(self.speculation))
        assert words[:2] == _LAUNCH, words
        checks = ["--package", PACKAGES[self.which], *(["--seeded"] if self.spec.is_seeded else [])]
        return [python, "-m", "sglang_glm52.bench.node_server", *checks, *words[2:]]


def measure(run: NodeRun, phases: Sequence[str], log: Path, folder: Path, keep: Keep) -> bool:
    """Keep a row for the start and each phase; whether all were measured.

    A row holds the error and the end of the server's log where something went wrong. The phases after it are measured
    if the server still answers, otherwise by a server of the next call.
    """
    port, phase, num_failed = free_port(), START, 0
    began = time.monotonic()
    environ = {**run.spec.server_environ(run.speculation), "SGLANG_PLUGINS": PLUGINS[run.which]}
    try:
        with running_server(
            run.command(port), port, log=log, environ=environ, timeout_seconds=run.start_timeout, on_wait=_Progress()
        ) as server:
            start_s = time.monotonic() - began
            _warm_up(run, server)
            keep(START, {"start_s": start_s, "ready_s": time.monotonic() - began})
            for phase in phases:
                try:
                    keep(phase, _measure_phase(run, phase, server, port, folder))
                except LoadError as error:
                    num_failed += 1
                    keep(phase, {ERROR: f"{error}\nthe server's log ends:\n{server.tail()}"})
                    if not _answers(server):
                        return False
    except (ServerError, OSError) as error:  # OSError: no answer in time, or the server's end of a connection is gone
        keep(phase, {ERROR: str(error)})
        return False
    return num_failed == 0


def _answers(server: Server) -> bool:
    """Whether the server still generates a token."""
    try:
        server.get("/health_generate", timeout_seconds=_HEALTH_S)
    except OSError:
        return False
    return True


def _measure_phase(run: NodeRun, phase: str, server: Server, port: int, folder: Path) -> dict[str, Any]:
    if phase == MEMORY:
        return memory_values(server, run.spec, run.which, run.speculation)
    return send(run.spec, load_of(run.spec, phase), port, folder, run.phase_timeout)


def _warm_up(run: NodeRun, server: Server) -> None:
    """Two whole chunks, a short one and decode steps, which compile what is not cached."""
    spec = run.spec
    length = min(2 * spec.chunk + 1, spec.context_length - WARM_UP_NEW - SPARE_TOKENS)
    config = json.loads((Path(spec.model_dir) / "config.json").read_text())
    sampling = {"max_new_tokens": WARM_UP_NEW, "temperature": 0, "ignore_eos": True}
    prompt = random_prompt(length, config["vocab_size"], f"{spec.seed} warm-up")
    server.post("/generate", {"input_ids": prompt, "sampling_params": sampling}, timeout_seconds=run.phase_timeout)


class _Progress:
    """Prints the last line of the server's log now and then while it starts."""

    def __init__(self) -> None:
        self._next = _SAY_EVERY_S

    def __call__(self, seconds: float, line: str) -> None:
        if seconds >= self._next:
            self._next = seconds + _SAY_EVERY_S
            print(f"  {seconds:.0f} s: {line[:160]}", file=sys.stderr, flush=True)

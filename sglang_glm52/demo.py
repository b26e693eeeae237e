"""The whole thing in one command, without a GPU: a tiny random GLM-5.2, the real server, two requests, clean-up."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import time
from http.client import HTTPException
from pathlib import Path
from typing import Any

from sglang_glm52 import tiny
from sglang_glm52.host.guard import STATUS_PREFIX
from sglang_glm52.testing.process_group import interrupted_by
from sglang_glm52.testing.server import (
    CPU_ENVIRON,
    Server,
    ServerError,
    free_port,
    launch_command,
    running_server,
)

# What a user passes for the real model, and what a laptop needs: no GPU, little memory.
OPTIONS = (
    *("--reasoning-parser", "glm45", "--tool-call-parser", "glm47", "--context-length", "4096"),
    *("--device", "cpu", "--max-total-tokens", "8192", "--max-running-requests", "4"),
)


def run_demo(prompt: str, max_tokens: int, timeout_seconds: float) -> None:
    """Serve a tiny checkpoint, send a streamed chat completion and a /generate call, print both and the answers.

    Raises ServerError if the server does not start or the plugin is not in effect in it. Leaves no process and no file.
    """
    with interrupted_by(signal.SIGTERM, signal.SIGHUP), tempfile.TemporaryDirectory(prefix="glm52-demo-") as folder:
        checkpoint, log = Path(folder, "GLM-5.2-tiny"), Path(folder, "server.log")
        _say("1. a tiny GLM-5.2 with random weights", f"glm52 tiny {checkpoint}")
        tiny.build(checkpoint)
        port = free_port()
        command = launch_command(checkpoint, port, OPTIONS)
        settings = " ".join(f"{name}={value}" for name, value in CPU_ENVIRON.items())
        _say("2. the server", f"{settings} python {' '.join(command[1:])}")
        progress = _Progress()
        with running_server(
            command, port, log=log, environ=CPU_ENVIRON, timeout_seconds=timeout_seconds, on_wait=progress.show
        ) as server:
            progress.end()
            _say("3. this plugin in it", _status_line(server))
            try:
                _chat(server, prompt, max_tokens)
                _generate(server, prompt, max_tokens)
            except (OSError, HTTPException) as error:  # refused, cut off or timed out
                raise ServerError(f"a request failed: {error}; the server's log ends:\n{server.tail()}") from error
    _say("6. server stopped, files removed")


def _chat(server: Server, prompt: str, max_tokens: int) -> None:
    body = {
        "model": "default",
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    _say("4. a streamed chat completion (random weights: the text means nothing)", _sent("/v1/chat/completions", body))
    texts: dict[str, str] = {}
    num_events, usage = 0, None
    for event in server.stream("/v1/chat/completions", body):
        if "error" in event:
            raise ServerError(f"the chat completion failed: {event['error']}\n{server.tail()}")
        num_events += 1
        usage = event.get("usage") or usage
        for choice in event["choices"]:
            for part in ("reasoning_content", "content"):
                texts[part] = texts.get(part, "") + (choice["delta"].get(part) or "")
    for part, text in texts.items():
        print(f"   {part}: {text!r}")
    print(f"   {num_events} events, usage: {json.dumps(usage)}")


def _generate(server: Server, prompt: str, max_tokens: int) -> None:
    body = {"text": prompt, "sampling_params": {"max_new_tokens": max_tokens, "temperature": 0}}
    _say("5. a /generate call", _sent("/generate", body))
    answer = server.post("/generate", body)
    meta = answer["meta_info"]
    print(f"   text: {answer['text']!r}")
    print(f"   {meta['prompt_tokens']} tokens in, {meta['completion_tokens']} out, {meta['finish_reason']}")


def _status_line(server: Server) -> str:
    """What the model's process logged when it built the model."""
    lines = [line for line in server.log.read_text(errors="replace").splitlines() if STATUS_PREFIX in line]
    if not lines:
        raise ServerError(f"the server runs without this plugin; its log ends:\n{server.tail()}")
    return lines[0][lines[0].index(STATUS_PREFIX) :]


def _sent(path: str, body: dict[str, Any]) -> str:
    return f"POST {path} {json.dumps(body)}"


def _say(title: str, *details: str) -> None:
    print(title, *(f"   {detail}" for detail in details), sep="\n", flush=True)


class _Progress:
    """The wait for the server: one line that is overwritten on a terminal, a line every ten seconds elsewhere."""

    def __init__(self) -> None:
        self.is_terminal = sys.stdout.isatty()
        self.started = time.monotonic()
        self.next_seconds = 0.0
        self.line = "SGLang is being imported"

    def show(self, seconds: float, line: str) -> None:
        if line.startswith("["):  # SGLang's own lines begin with the time, warnings of what it imports do not
            self.line = line
        if self.is_terminal:
            print(f"\r\033[K   {seconds:3.0f} s  {self.line[:90]}", end="", flush=True)
        elif seconds >= self.next_seconds:
            print(f"   {seconds:3.0f} s  {self.line[:110]}", flush=True)
            self.next_seconds += 10

    def end(self) -> None:
        clear = "\r\033[K" if self.is_terminal else ""
        print(f"{clear}   ready after {time.monotonic() - self.started:.0f} s", flush=True)

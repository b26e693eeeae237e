"""The real server on a GPU with the flags users pass: CUDA graphs for decode, piecewise ones for prefill, or EAGLE."""

from __future__ import annotations

from pathlib import Path

import pytest

from sglang_glm52.host.guard import STATUS_PREFIX
from sglang_glm52.testing.server import free_port, launch_command, running_server
from sglang_glm52.tiny import build

pytestmark = pytest.mark.gpu

OPTIONS = (
    *("--kv-cache-dtype", "fp8_e4m3", "--reasoning-parser", "glm45", "--tool-call-parser", "glm47"),
    *("--context-length", "8192", "--max-total-tokens", "65536", "--cuda-graph-max-bs", "4"),
)


PIECEWISE = ("--piecewise-cuda-graph-tokens", "64", "512")  # two sizes: all of them take minutes to compile
EAGLE = (
    *("--speculative-algorithm", "EAGLE", "--speculative-num-steps", "3"),
    *("--speculative-eagle-topk", "1", "--speculative-num-draft-tokens", "4"),
)


@pytest.mark.parametrize("more", [PIECEWISE, EAGLE], ids=["piecewise graphs", "EAGLE"])
def test_a_chat_is_answered(more: tuple[str, ...], tmp_path: Path) -> None:
    checkpoint, port, log = build(tmp_path / "model", preset="gpu", fmt="fp8"), free_port(), tmp_path / "log"
    body = {
        "model": "default",
        "messages": [{"role": "user", "content": "What is sparse attention?"}],
        "max_tokens": 16,
        "temperature": 0,
    }
    with running_server(launch_command(checkpoint, port, (*OPTIONS, *more)), port, log=log) as server:
        first, second = (server.post("/v1/chat/completions", body) for _ in range(2))
        assert STATUS_PREFIX in log.read_text()
    assert first["usage"]["completion_tokens"] == 16
    assert first["choices"][0]["message"] == second["choices"][0]["message"]

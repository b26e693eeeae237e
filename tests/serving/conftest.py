"""One server of the tiny model for all files here, and the official clients for it."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import openai
import pytest
from serving.answer import MODEL
from serving.scripted import SERVER_ENVIRON, SERVER_OPTIONS

from sglang_glm52.testing.server import CPU_ENVIRON, Server, free_port, launch_command, running_server
from sglang_glm52.tiny import build

OPTIONS = (
    *("--device", "cpu", "--dtype", "float32", "--served-model-name", MODEL, *SERVER_OPTIONS),
    *("--reasoning-parser", "glm45", "--tool-call-parser", "glm47", "--context-length", "4096"),
    *("--chunked-prefill-size", "2048", "--max-total-tokens", "16384", "--max-running-requests", "4"),
    "--sleep-on-idle",  # it lives until the last test of the whole run
)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("serving")
    port = free_port()
    command = launch_command(build(folder / "model"), port, OPTIONS)
    environ = {**CPU_ENVIRON, **SERVER_ENVIRON}
    with running_server(command, port, log=folder / "log", environ=environ, grace_seconds=2) as server:
        yield server


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.DefaultHttpxClient(trust_env=False) as http:  # a proxy would not reach this machine
        yield openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, http_client=http, timeout=120)


@pytest.fixture(scope="session")
def claude(server: Server) -> Iterator[anthropic.Anthropic]:
    with anthropic.DefaultHttpxClient(trust_env=False) as http:
        yield anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, http_client=http, timeout=120)

"""The server that a user starts, on the CPU engine: many clients at once, clients that leave, bad requests."""

from __future__ import annotations

import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sglang_glm52.host.guard import STATUS_PREFIX
from sglang_glm52.testing.server import CPU_ENVIRON, Server, free_port, launch_command, running_server
from sglang_glm52.tiny import build

CONTEXT = 1024
NUM_CLIENTS = 16
OPTIONS = (
    *("--device", "cpu", "--dtype", "float32", "--served-model-name", "glm-tiny"),
    *("--reasoning-parser", "glm45", "--tool-call-parser", "glm47", "--context-length", str(CONTEXT)),
    *("--chunked-prefill-size", "256", "--max-total-tokens", "16384", "--max-running-requests", str(NUM_CLIENTS)),
)
CHAT = {"model": "glm-tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "temperature": 0}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("serving")
    port = free_port()
    command = launch_command(build(folder / "model"), port, OPTIONS)
    with running_server(command, port, log=folder / "log", environ=CPU_ENVIRON) as server:
        yield server


def generate(server: Server, prompt: list[int]) -> tuple[list[int], list[float]]:
    """Greedy token ids and their log-probabilities."""
    sampling = {"max_new_tokens": 16, "temperature": 0, "ignore_eos": True}
    body = {"input_ids": prompt, "sampling_params": sampling, "return_logprob": True}
    answer = server.post("/generate", body)
    return answer["output_ids"], [entry[0] for entry in answer["meta_info"]["output_token_logprobs"]]


def running(server: Server) -> int:
    return json.loads(server.get("/v1/loads"))["loads"][0]["num_running_reqs"]


def test_the_plugin_says_what_it_changed(server: Server) -> None:
    assert STATUS_PREFIX in server.log.read_text()


def test_concurrent_requests_equal_their_one_by_one_results(server: Server) -> None:
    """Prefill and decode share batches then, and prompts of up to three chunks are cut at other places."""
    rng = random.Random(16)
    prompts = [[rng.randrange(256) for _ in range(rng.choice((1, 7, 64, 130, 300, 700)))] for _ in range(NUM_CLIENTS)]
    alone = [generate(server, prompt) for prompt in prompts]
    server.get("/flush_cache")
    with ThreadPoolExecutor(NUM_CLIENTS) as clients:
        together = list(clients.map(lambda prompt: generate(server, prompt), prompts))
    for prompt, one, many in zip(prompts, alone, together, strict=True):
        assert many[0] == one[0], f"prompt of {len(prompt)} tokens"
        assert many[1] == pytest.approx(one[1], abs=1e-3), f"prompt of {len(prompt)} tokens"


def test_a_client_that_leaves_ends_its_request(server: Server) -> None:
    sampling = {"max_new_tokens": CONTEXT - 64, "temperature": 0, "ignore_eos": True}
    before = generate(server, [1, 2, 3])
    stream = server.stream("/generate", {"text": "Hi", "stream": True, "sampling_params": sampling})
    next(stream), next(stream)
    assert running(server) == 1
    stream.close()
    left = time.monotonic()
    while running(server):
        assert time.monotonic() - left < 10, "the request goes on without its client"
        time.sleep(0.2)
    assert generate(server, [1, 2, 3]) == before


def chat(**changes: Any) -> bytes:
    return json.dumps({**CHAT, **changes}).encode()


BAD_REQUESTS = {
    "a prompt over the context length": (
        "/v1/chat/completions",
        chat(messages=[{"role": "user", "content": "x" * 2 * CONTEXT}]),
        400,
        f"longer than the model's context length ({CONTEXT} tokens)",
    ),
    "a prompt of token ids over it": ("/generate", json.dumps({"input_ids": [1] * 2000}).encode(), 400, "2000 tokens"),
    "more new tokens than the window": ("/v1/chat/completions", chat(max_tokens=5000), 400, "too large: 5000"),
    "malformed JSON": ("/v1/chat/completions", b'{"model": "glm-tiny", ', 400, "JSON decode error"),
    "malformed JSON for /generate": ("/generate", b'{"text": ', 400, "JSON decode error"),
    "no messages": ("/v1/chat/completions", b'{"model": "glm-tiny"}', 400, "Field required"),
    "messages of another type": ("/v1/chat/completions", chat(messages="Hi"), 400, "valid list"),
    "an adapter that is not served": ("/v1/chat/completions", chat(model="glm-tiny:nope"), 400, "'nope'"),
    "a model that is not served": ("/v1/models/nope", None, 404, "The model 'nope' does not exist"),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_a_bad_request_is_refused_and_the_server_goes_on(server: Server, case: str) -> None:
    path, body, status, words = BAD_REQUESTS[case]
    request = urllib.request.Request(server.url + path, data=body, headers={"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=60)
    message = refused.value.read().decode()
    assert refused.value.code == status and words in message, message
    assert server.post("/v1/chat/completions", CHAT)["usage"]["completion_tokens"] == 4

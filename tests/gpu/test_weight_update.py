"""A running W4AFP8 server takes the weights of another checkpoint, and then answers as a server started with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sglang_glm52.testing.server import Server, free_port, launch_command, running_server
from sglang_glm52.tiny import build
from sglang_glm52.tiny.tokenizer import VOCAB_SIZE

pytestmark = pytest.mark.gpu

OPTIONS = (
    *("--kv-cache-dtype", "fp8_e4m3", "--context-length", "4096", "--max-total-tokens", "16384"),
    *("--cuda-graph-max-bs", "2", "--disable-piecewise-cuda-graph", "--skip-tokenizer-init"),
)
PROMPT = list(range(10, 210))
NUM_NEW = 4  # the first from a prefill, the others from a CUDA graph
SAME, OTHER = 0.01, 0.3  # mean |difference| of log-probabilities: of equal weights, of others at least


def logprobs(server: Server) -> np.ndarray:
    """[NUM_NEW, vocabulary], of the steps after the prompt."""
    body = {
        "input_ids": PROMPT,
        "sampling_params": {"max_new_tokens": NUM_NEW, "temperature": 0, "ignore_eos": True},
        "return_logprob": True,
        "token_ids_logprob": list(range(VOCAB_SIZE)),
    }
    steps = server.post("/generate", body)["meta_info"]["output_token_ids_logprobs"]
    return np.array([[logprob for logprob, *_ in step] for step in steps], dtype=np.float32)


def test_an_updated_server_answers_as_one_started_with_those_weights(tmp_path: Path) -> None:
    old, new = (build(tmp_path / f"model{seed}", preset="gpu", fmt="w4afp8", seed=seed) for seed in (0, 1))
    answers = []
    for checkpoint in (old, new):
        port = free_port()
        with running_server(launch_command(checkpoint, port, OPTIONS), port, log=tmp_path / f"log{port}") as server:
            answers.append(logprobs(server))
            if checkpoint == old:
                assert server.post("/update_weights_from_disk", {"model_path": str(new)})["success"]
                answers.append(logprobs(server))
    before, updated, started = answers
    assert np.abs(updated - started).mean() < SAME
    assert np.abs(before - started).mean() > OTHER

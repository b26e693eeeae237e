"""A KV pool too small for all requests: some are retracted and start again, and answer as if they had been alone."""

from __future__ import annotations

import random
from pathlib import Path

from sglang_glm52.testing.engine import Job, Run, run_engine
from sglang_glm52.tiny import build

PROMPTS = 6
POOL_TOKENS = 1024  # each request grows to 64 + 192 tokens: four of the six fit


def serve(checkpoint: Path, jobs: list[Job], max_total_tokens: int) -> list[list[Run]]:
    args = {"dtype": "float32", "max_total_tokens": max_total_tokens, "max_running_requests": PROMPTS}
    # The host admits a request when this share of its new tokens fits: all at once, and too many.
    environ = {"SGLANG_INIT_NEW_TOKEN_RATIO": "0.1", "SGLANG_MIN_NEW_TOKEN_RATIO_FACTOR": "1.0"}
    return run_engine(checkpoint, jobs, device="cpu", environ=environ, **args)


def test_retracted_requests_answer_the_same(tmp_path: Path) -> None:
    checkpoint = build(tmp_path / "model")
    rng = random.Random(3)
    prompts = [[rng.randrange(256) for _ in range(64)] for _ in range(PROMPTS)]
    [crowded] = serve(checkpoint, [Job(prompts, max_new_tokens=192)], POOL_TOKENS)
    alone = serve(checkpoint, [Job([prompt], max_new_tokens=192) for prompt in prompts], 8192)
    assert sum(run.retractions for run in crowded) > 0, "nothing was retracted: the pool is too large for this test"
    assert [run.output_ids for run in crowded] == [run.output_ids for [run] in alone]

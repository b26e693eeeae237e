"""Two ranks on the CPU (gloo) against one: the same log-probabilities, whatever is split over them."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from sglang_glm52.testing.engine import Job, Run, run_engine
from sglang_glm52.tiny import build
from sglang_glm52.tiny.tokenizer import VOCAB_SIZE

BOUND = 1e-3  # of log-probabilities in nats
LENGTHS = (1, 40, 64, 300)  # index_topk is 64
NUM_NEW = 8
ONE_CORE_EACH = {"SGLANG_CPU_OMP_THREADS_BIND": "0|1"}  # without it the host asks each rank for a NUMA node of its own


def serve(checkpoint: Path, **engine_args) -> list[Run]:
    rng = random.Random(2)
    prompts = [[rng.randrange(256) for _ in range(length)] for length in LENGTHS]
    job = Job(prompts, max_new_tokens=NUM_NEW, vocab_size=VOCAB_SIZE)
    environ = ONE_CORE_EACH if engine_args else {}
    args = {"dtype": "float32", "max_total_tokens": 4096, "chunked_prefill_size": 128, **engine_args}
    [runs] = run_engine(checkpoint, [job], device="cpu", environ=environ, **args)
    return runs


@pytest.mark.parametrize(
    ("fmt", "split"),
    [("fp8", {"tp_size": 2}), ("w4afp8", {"tp_size": 2, "ep_size": 2})],
    ids=["tp2-fp8", "tp2-ep2-w4afp8"],
)
def test_two_ranks_equal_one(fmt: str, split: dict[str, int], tmp_path: Path) -> None:
    checkpoint = build(tmp_path / "model", fmt=fmt)
    one_rank, two_ranks = serve(checkpoint), serve(checkpoint, **split)
    for length, got, want in zip(LENGTHS, two_ranks, one_rank, strict=True):
        assert got.output_ids == want.output_ids, f"{length} tokens"
        for part in ("prompt_logprobs", "output_logprobs"):
            a, b = getattr(got, part), getattr(want, part)
            assert a.shape == b.shape and a.size and np.isfinite(a).all(), f"{length} tokens, {part}: {a.shape}"
            assert np.abs(a - b).max() <= BOUND, f"{length} tokens, {part}: {np.abs(a - b).max():.2e}"

"""Two GPUs that share a prefill's rows out answer as two that each select for all of them."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from gpu.test_two_gpus import EAGLE

from sglang_glm52.planner.kv import FP8
from sglang_glm52.testing.engine import Job, Run, run_engine
from sglang_glm52.tiny import build
from sglang_glm52.tiny.tokenizer import VOCAB_SIZE

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs"),
]

LENGTHS = (9000, 20_001)  # in chunks of 8,192: whole chunks, a rest of 808 that is not shared out, an odd one that is
SCORED = 64
OTHER_KERNEL = 2**0.5 * 0.12  # of two that round independently, as in test_two_gpus.py
BOUND = 0.02  # mean |difference| of log-probabilities; selections may differ in ties, and those in nothing else


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("shared") / "model", preset="gpu", fmt="bf16")


def serve(checkpoint: Path, rows: str, attention: str, engine_args: dict[str, object]) -> list[Run]:
    rng = random.Random(4)
    prompts = [[rng.randrange(256) for _ in range(length)] for length in LENGTHS]
    jobs = [Job([p], 16, score_from=len(p) - SCORED, vocab_size=VOCAB_SIZE) for p in prompts]
    runs = run_engine(
        checkpoint,
        jobs,
        device="cuda",
        environ={"SGLANG_GLM52_PREFILL_ROWS": rows, "SGLANG_GLM52_SPARSE_ATTENTION": attention},
        tp_size=2,
        kv_cache_dtype=FP8,
        chunked_prefill_size=8192,
        disable_piecewise_cuda_graph=True,
        cuda_graph_max_bs=2,
        max_total_tokens=32_768,
        context_length=32_768,
        **engine_args,
    )
    return [run for [run] in runs]


@pytest.mark.parametrize(
    ("attention", "engine_args", "bound"),
    [
        ("host", {}, BOUND),
        ("host", {"dsa_prefill_backend": "flashmla_kv"}, OTHER_KERNEL),  # which cuts fewer rows otherwise
        ("fused", {}, OTHER_KERNEL),
        ("fused", EAGLE, OTHER_KERNEL),
    ],
    ids=["FlashMLA on bf16", "FlashMLA on FP8", "this package's against it", "EAGLE"],
)
def test_shared_rows_change_no_answer(
    attention: str, engine_args: dict[str, object], bound: float, checkpoint: Path
) -> None:
    """With SGLANG_GLM52_SPARSE_ATTENTION=host the same kernel attends for 8 heads of all rows and for 16 of half."""
    runs = (serve(checkpoint, rows, attention, engine_args) for rows in ("all", "shared"))
    for all_rows, shared in zip(*runs, strict=True):
        difference = np.abs(all_rows.prompt_logprobs - shared.prompt_logprobs)
        likely = all_rows.prompt_logprobs > -8.0
        print(f"mean |difference| {difference[likely].mean():.5f}")
        assert np.isfinite(difference).all() and difference[likely].mean() < bound

"""The kernels that attend in a prefill with an FP8 cache answer alike.

They are FlashMLA's for decode steps, its bf16 kernel on a dequantised context, and this package's. All read the same
FP8 latents; their sums run in another order, and bf16 rounds the dequantised ones. Two runs round independently, so
they may differ by the root of two times what test_gpu_parity.py allows one with a bf16 cache.
"""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from sglang_glm52.planner.kv import FP8
from sglang_glm52.testing.engine import Job, Run, run_engine
from sglang_glm52.tiny import build
from sglang_glm52.tiny.tokenizer import VOCAB_SIZE

pytestmark = pytest.mark.gpu

LENGTHS = (3000, 9000)  # beyond index_topk = 2048, in chunks with and without a prefix
SCORED, BOUND = 64, 2**0.5 * 0.06  # of the mean |difference| of log-probabilities


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Layers that share a selection, and layers that make one."""
    return build(tmp_path_factory.mktemp("sparse") / "model", preset="gpu", fmt="bf16")


def serve(checkpoint: Path, backend: str, attention: str, chunk: int) -> list[Run]:
    rng = random.Random(5)
    prompts = [[rng.randrange(256) for _ in range(length)] for length in LENGTHS]
    prompts.append([*prompts[1][:8500], *prompts[0][:300]])  # most of it is in the radix cache
    jobs = [Job([p], 16, score_from=len(p) - SCORED, vocab_size=VOCAB_SIZE) for p in prompts]
    runs = run_engine(
        checkpoint,
        jobs,
        device="cuda",
        environ={"SGLANG_GLM52_SPARSE_ATTENTION": attention},
        kv_cache_dtype=FP8,
        dsa_prefill_backend=backend,
        chunked_prefill_size=chunk,
        disable_piecewise_cuda_graph=True,
        cuda_graph_max_bs=2,
        max_total_tokens=32_768,
        context_length=16_384,
    )
    return [run for [run] in runs]


@pytest.fixture(scope="module")
def decode_kernel(checkpoint: Path):
    """Runs with FlashMLA's kernel for decode steps, by the size of chunks."""
    return cache(lambda chunk: serve(checkpoint, "flashmla_kv", "host", chunk))


@pytest.mark.parametrize("attention", ["host", "fused"])
@pytest.mark.parametrize("chunk", [1024, 8192])
def test_another_kernel_answers_alike(checkpoint: Path, decode_kernel, chunk: int, attention: str) -> None:
    for got, want in zip(serve(checkpoint, "flashmla_auto", attention, chunk), decode_kernel(chunk), strict=True):
        assert got.cached_tokens == want.cached_tokens
        difference = np.abs(got.prompt_logprobs - want.prompt_logprobs)[want.prompt_logprobs > -8.0]
        label = f"{attention}, chunks of {chunk}, {got.cached_tokens} tokens cached"
        print(f"{label}: mean |difference| {difference.mean():.5f}")
        assert np.isfinite(difference).all() and 0.0 < difference.mean() < BOUND, (
            f"{label}; 0: the same kernel ran twice"
        )

"""The compact KV pool on a GPU: the output of SGLang's pool, and more tokens in the same memory.

Two runs with SGLang's own pool differ in their last bits, as its top-k writes a selection in no fixed order. So the
checkpoint is one whose next tokens no rounding changes (as in test_gpu_eagle.py), and log-probabilities are held to
BOUND. Prompts are longer than index_topk = 2048 where the indexer's keys decide the result: with the keys of layer 6
stored one slot off, log-probabilities after 3000 tokens differ by 0.3 on average (CPU engine, float32).
"""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from planner.engine_memory import measure

from sglang_glm52.memory.compact_cell import PoolShape, compact_cell
from sglang_glm52.planner.kv import FP8, Pool, kv_bytes, slots
from sglang_glm52.planner.model import read_model
from sglang_glm52.testing.engine import Job, Run, run_engine
from sglang_glm52.tiny import build
from sglang_glm52.tiny.tokenizer import VOCAB_SIZE

pytestmark = pytest.mark.gpu

VARIABLE = "SGLANG_GLM52_KV_POOL"
SEED, ACCEPTANCE = 0, 0.6
BOUND = 2**0.5 * 0.12  # of the mean absolute difference of log-probabilities; test_gpu_eagle.py says why
SCORED = 64  # last positions of a prompt
CROWD, CROWD_PROMPT, CROWD_NEW = 6, 2560, 512
POOL_TOKENS = 272 * 64  # the prompts of the crowd fill 240 pages, and its requests grow to 288
EAGLE = {
    "speculative_algorithm": "EAGLE",
    "speculative_num_steps": 1,
    "speculative_eagle_topk": 1,
    "speculative_num_draft_tokens": 2,
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Layers 0, 1, 2 and 6 of eight have an indexer."""
    return build(tmp_path_factory.mktemp("compact") / "model", "gpu", "bf16", SEED, mtp_acceptance=ACCEPTANCE)


def draw(length: int) -> list[int]:
    rng = random.Random(length)
    return [rng.randrange(256) for _ in range(length)]


def scored(prompt: list[int], max_new_tokens: int = 16) -> Job:
    return Job([prompt], max_new_tokens, score_from=len(prompt) - SCORED, vocab_size=VOCAB_SIZE)


@cache
def jobs() -> tuple[Job, ...]:
    """A dense prefill, one that ends beyond index_topk, one that reuses its prefix, and a crowd."""
    long = draw(3000)
    crowd = [draw(CROWD_PROMPT + i)[:CROWD_PROMPT] for i in range(CROWD)]
    return (
        scored(draw(96)),
        scored(long),
        scored([*long[:2700], *draw(200)]),
        Job(crowd, CROWD_NEW, score_from=-1, vocab_size=VOCAB_SIZE),
    )


def serve(checkpoint: Path, pool: str, speculation: dict[str, object]) -> list[list[Run]]:
    return run_engine(
        checkpoint,
        [replace(job, score_from=-1) if speculation else job for job in jobs()],
        device="cuda",
        # The second and third: admit a request when a tenth of its new tokens fits, which is the whole crowd.
        environ={VARIABLE: pool, "SGLANG_INIT_NEW_TOKEN_RATIO": "0.1", "SGLANG_MIN_NEW_TOKEN_RATIO_FACTOR": "1.0"},
        kv_cache_dtype=FP8,
        chunked_prefill_size=1024,
        disable_piecewise_cuda_graph=True,
        cuda_graph_max_bs=8,
        max_running_requests=8,
        max_total_tokens=POOL_TOKENS,
        context_length=8192,
        **speculation,
    )


@pytest.mark.parametrize("speculation", [{}, EAGLE], ids=["plain", "eagle"])
def test_the_output_is_that_of_the_hosts_pool(checkpoint: Path, speculation: dict[str, object]) -> None:
    host, compact = (serve(checkpoint, pool, speculation) for pool in ("host", "compact"))
    _, _, [reused], crowd = compact
    assert reused.cached_tokens >= 2688, "the prefix cache was not used"
    assert speculation or sum(run.retractions for run in crowd) > 0, "nothing was retracted: the pool is too large"
    for j, (ours, theirs) in enumerate(zip(compact, host, strict=True)):
        for p, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            where = f"job {j}, prompt {p}"
            assert a.cached_tokens == b.cached_tokens and a.draft_rounds == b.draft_rounds, where
            assert a.output_ids == b.output_ids, where
            for name in ("prompt_logprobs", "output_logprobs"):
                assert_near(f"{where}, {name}", getattr(a, name), getattr(b, name))


def assert_near(label: str, got: np.ndarray, want: np.ndarray) -> None:
    assert got.shape == want.shape and np.isfinite(got).all(), label
    mean = np.abs(got - want).mean() if want.size else 0.0
    print(f"{label}: mean |difference| {mean:.4f}")
    assert mean < BOUND, f"{label}: mean |difference| {mean:.4f} >= {BOUND:.4f}"


def test_the_same_fraction_holds_more_tokens_in_the_same_bytes(checkpoint: Path) -> None:
    flags = (
        *("--device", "cuda", "--dtype", "bfloat16", "--kv-cache-dtype", FP8, "--mem-fraction-static", "0.5"),
        *("--disable-cuda-graph", "--disable-piecewise-cuda-graph", "--context-length", "8192"),
    )
    host, compact = (measure(checkpoint, *flags, environ={VARIABLE: pool}) for pool in ("host", "compact"))
    print({name: (host[name], compact[name]) for name in ("pool", "tokens", "kv", "rest_bytes")})
    assert host["pool"].startswith("sglang.") and compact["pool"].startswith("sglang_glm52.")

    arch = read_model(checkpoint).arch
    bytes_a_token = kv_bytes(arch, FP8, Pool.COMPACT, use_mtp=False).total
    assert compact["kv"] == slots(compact["tokens"]) * bytes_a_token == slots(compact["tokens"]) * (8 * 656 + 4 * 132)
    host_cell = kv_bytes(arch, FP8, Pool.HOST, use_mtp=False).accounted
    shape = PoolShape(latent_bytes=656, key_bytes=132, num_layers=8, num_with_keys=4, num_draft_layers=0)
    cells = {"host": host_cell, "compact": compact_cell(host_cell, shape)}
    for found, cell in ((host, cells["host"]), (compact, cells["compact"])):
        assert found["tokens"] == int(found["rest_bytes"]) // cell // 64 * 64
    gain = (compact["tokens"] / compact["rest_bytes"]) / (host["tokens"] / host["rest_bytes"])
    assert gain == pytest.approx(788 * 8 / bytes_a_token, rel=1e-3)  # 1.091; 1.139 for the published model
    assert compact["kv"] / compact["rest_bytes"] == pytest.approx(host["kv"] / host["rest_bytes"], rel=1e-3)


def test_kernels_and_cpu_copies_find_the_same_bytes_in_both_pools() -> None:
    from sglang.srt.mem_cache.memory_pool import DSATokenToKVPool

    from sglang_glm52.memory.compact_pool import compact_pool_class

    args = {"page_size": 64, "dtype": torch.float8_e4m3fn, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "layer_num": 4}
    args |= {"device": "cuda", "kv_cache_dim": 656, "enable_memory_saver": False, "index_head_dim": 128}
    pools = [c(512, start_layer=0, end_layer=4, **args) for c in (DSATokenToKVPool, compact_pool_class([0, 3]))]
    torch.manual_seed(0)
    position = torch.arange(150, device="cuda")  # two whole pages and part of a third
    loc = torch.tensor([1, 4, 2], device="cuda")[position // 64] * 64 + position % 64
    for layer in (0, 3):
        keys = torch.randn(150, 128, device="cuda").to(torch.float8_e4m3fn)
        scales = torch.rand(150, 1, device="cuda")
        for pool in pools:
            pool.set_index_k_scale_buffer(layer, loc, keys, scales)
        pages = torch.tensor([1, 4, 2], dtype=torch.int32, device="cuda")
        for reader in ("get_index_k_continuous", "get_index_k_scale_continuous"):
            a, b = (getattr(pool, reader)(layer, 150, pages) for pool in pools)
            assert torch.equal(a, b) and a.any()
        assert torch.equal(*(pool.get_index_k_with_scale_buffer(layer) for pool in pools))
    with pytest.raises(LookupError, match="layer 1 has no indexer"):
        pools[1].set_index_k_scale_buffer(1, loc, keys, scales)

    copies = [pool.get_cpu_copy(loc) for pool in pools]
    target = torch.tensor([6, 3, 5], device="cuda")[position // 64] * 64 + position % 64
    for pool, copy in zip(pools, copies, strict=True):
        pool.load_cpu_copy(copy, target)
    for layer in (0, 3):
        assert torch.equal(*(pool.get_index_k_with_scale_buffer(layer) for pool in pools))

"""Bytes of KV cache and the host's number of tokens, by hand and against the host's own classes."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from sglang_glm52.errors import ConfigError
from sglang_glm52.planner.constants import GIB
from sglang_glm52.planner.kv import (
    FP8,
    KV_DTYPES,
    KvBytes,
    Pool,
    index_key_bytes,
    kv_bytes,
    latent_row_bytes,
    pool_tokens,
    slots,
)
from sglang_glm52.planner.model import preset_model

ARCH = preset_model("w4afp8").arch
DTYPES = {FP8: torch.float8_e4m3fn, "bfloat16": torch.bfloat16}


def test_rows_of_the_published_model():
    assert latent_row_bytes(ARCH, FP8) == 512 + 4 * 4 + 2 * 64 == 656
    assert latent_row_bytes(ARCH, "bfloat16") == 2 * 576
    assert index_key_bytes(ARCH, Pool.HOST, FP8) == index_key_bytes(ARCH, Pool.COMPACT, "bfloat16") == 132


def test_sglangs_pool_by_hand():
    """78 layers of 656 + 132; the keys of 57 shared layers are never read."""
    assert kv_bytes(ARCH, FP8, Pool.HOST, use_mtp=False) == KvBytes(
        latents=51168, index_keys=10296, unread=7524, mtp=0, accounted=55224
    )
    assert kv_bytes(ARCH, FP8, Pool.HOST, use_mtp=False).total == 61464


def test_the_compact_pool_by_hand():
    kv = kv_bytes(ARCH, FP8, Pool.COMPACT, use_mtp=True)
    assert kv == KvBytes(latents=51168, index_keys=2772, unread=0, mtp=788, accounted=48550)
    assert kv.target == 53940 and kv.total == 54728


@pytest.mark.parametrize(("dtype", "percent"), [(FP8, 13.9), ("bfloat16", 8.1)])
def test_what_the_compact_pool_gains(dtype, percent):
    host, compact = (kv_bytes(ARCH, dtype, pool, use_mtp=False).total for pool in (Pool.HOST, Pool.COMPACT))
    assert 100 * (host / compact - 1) == pytest.approx(percent, abs=0.05)


@pytest.mark.parametrize("dtype", KV_DTYPES)
def test_the_hosts_pool_allocates_that_much(dtype):
    from sglang.srt.mem_cache.memory_pool import DSATokenToKVPool

    num_layers, tokens, page = 3, 256, 64
    arch = replace(ARCH, num_layers=num_layers, indexer_types=("full", "shared", "shared"))
    row = latent_row_bytes(arch, dtype) // DTYPES[dtype].itemsize
    pool = DSATokenToKVPool(
        tokens, page, 512, DTYPES[dtype], 64, num_layers, "cpu", 128, enable_memory_saver=False, kv_cache_dim=row
    )
    buffers = [*pool.kv_buffer, *pool.index_k_with_scale_buffer]
    assert (
        sum(buffer.nbytes for buffer in buffers)
        == slots(tokens) * kv_bytes(arch, dtype, Pool.HOST, use_mtp=False).total
    )


@pytest.mark.parametrize("dtype", KV_DTYPES)
@pytest.mark.parametrize("rest_gib", [0.5, 7.3, 71.25])
def test_the_hosts_formula_gives_as_many_tokens(dtype, rest_gib, monkeypatch):
    from sglang.srt.model_executor import pool_configurator

    monkeypatch.setattr(pool_configurator, "get_attention_tp_size", lambda: 8)
    hf_config = SimpleNamespace(
        architectures=["GlmMoeDsaForCausalLM"], index_topk=2048, index_head_dim=128, model_type="glm_moe_dsa"
    )
    runner = SimpleNamespace(
        mambaish_config=None,
        num_effective_layers=78,
        kv_cache_dtype=DTYPES[dtype],
        use_mla_backend=True,
        spec_algorithm=SimpleNamespace(is_dflash=lambda: False),
        is_draft_worker=False,
        model_config=SimpleNamespace(kv_lora_rank=512, qk_rope_head_dim=64, hf_config=hf_config),
    )
    configurator = pool_configurator.DefaultPoolConfigurator(runner)
    expected = configurator.calculate_pool_sizes(int(rest_gib * GIB), 64).max_total_num_tokens
    kv = kv_bytes(ARCH, dtype, Pool.HOST, use_mtp=False)
    free, fraction = 137.0 * GIB, 0.85
    weights = int(free * fraction - rest_gib * GIB)
    found = pool_tokens(free, weights, fraction, kv)
    assert found % 64 == 0 and abs(found - expected) <= 64  # a byte of rounding may cost a page


def test_no_room_is_no_tokens():
    kv = kv_bytes(ARCH, FP8, Pool.HOST, use_mtp=False)
    assert pool_tokens(10.0 * GIB, 9 * GIB, 0.85, kv) == 0
    assert pool_tokens(10.0, 0, 0.9, kv) == 0


def test_the_cpu_pool_has_plain_rows():
    kv = kv_bytes(ARCH, "float32", Pool.CPU, use_mtp=False)
    assert (kv.latents, kv.index_keys) == (78 * 576 * 4, 21 * 128 * 4)
    assert kv.accounted == 78 * (576 * 4 + 132)


def test_latents_that_fp8_tiles_do_not_fit():
    with pytest.raises(ConfigError, match="kv_lora_rank = 64; an FP8 cache needs a multiple of 128: use bfloat16"):
        latent_row_bytes(replace(ARCH, kv_lora_rank=64), FP8)

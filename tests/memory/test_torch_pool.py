"""The CPU engine's KV pool: every sweep over it covers latents and indexer keys alike."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from sglang_glm52.memory.torch_pool import TorchDsaKVPool

LATENT, ROPE, KEY, LAYERS, SIZE, PAGE = 6, 2, 4, 3, 16, 4


@pytest.fixture
def pool() -> TorchDsaKVPool:
    """Layer 1 of three has an indexer; slots 4 to 11 are written."""
    pool = TorchDsaKVPool(
        SIZE,
        PAGE,
        LATENT,
        torch.float32,
        ROPE,
        LAYERS,
        "cpu",
        KEY,
        enable_memory_saver=False,
        kv_cache_dim=LATENT + ROPE,
    )
    torch.manual_seed(0)
    slots = torch.arange(4, 12)
    for layer in range(LAYERS):
        where = SimpleNamespace(layer_id=layer)
        pool.set_mla_kv_buffer(where, slots, torch.randn(8, 1, LATENT), torch.randn(8, 1, ROPE))
    pool.set_index_k(1, slots, torch.randn(8, KEY))
    return pool


def rows(pool: TorchDsaKVPool, slots: torch.Tensor) -> list[torch.Tensor]:
    return [pool.get_key_buffer(layer)[slots].clone() for layer in range(LAYERS)] + [pool.get_index_k(1)[slots].clone()]


def assert_equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> None:
    assert all(torch.equal(x, y) and x.abs().sum() > 0 for x, y in zip(a, b, strict=True))


def test_a_layer_without_an_indexer_holds_no_keys(pool):
    assert list(pool.index_k) == [1]
    assert pool.get_kv_size_bytes() == (SIZE + PAGE) * 4 * (LAYERS * (LATENT + ROPE) + KEY)


def test_rows_move_with_their_keys(pool):
    source, target = torch.tensor([4, 7]), torch.tensor([13, 2])
    before = rows(pool, source)
    pool.move_kv_cache(target, source)
    assert_equal(rows(pool, target), before)


def test_rows_survive_a_stay_outside_the_pool(pool):
    source, target = torch.arange(4, 8), torch.arange(12, 16)
    before = rows(pool, source)
    outside = pool.get_cpu_copy(source)
    for layer in range(LAYERS):
        pool.get_key_buffer(layer)[source] = -1.0
    pool.get_index_k(1)[source] = -1.0
    pool.load_cpu_copy(outside, target)
    assert_equal(rows(pool, target), before)

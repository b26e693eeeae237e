"""The compact KV pool beside the host's: the same pages where there is an indexer, elsewhere none and an error."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from published_config import published
from sglang.srt.layers.attention.dsa import index_buf_accessor
from sglang.srt.mem_cache.memory_pool import DSATokenToKVPool

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.memory.compact_pool import CompactDsaKVPool, compact_pool_class
from sglang_glm52.planner.kv import FP8, KV_DTYPES, Pool, kv_bytes, latent_row_bytes, slots

ARCH = Glm52Arch.from_config(published())
FULL = [layer for layer, kind in enumerate(ARCH.indexer_types) if kind == "full"]
DTYPES = {FP8: torch.float8_e4m3fn, "bfloat16": torch.bfloat16}
SMALL = replace(ARCH, num_layers=4, indexer_types=("full", "shared", "shared", "full"))
SIZE, PAGE = 512, 64


def make_pool(pool_class: type[DSATokenToKVPool], arch: Glm52Arch, dtype: str, **kwargs: int) -> DSATokenToKVPool:
    """A pool on the CPU, with the arguments that the host's model runner passes."""
    return pool_class(
        SIZE,
        page_size=PAGE,
        dtype=DTYPES[dtype],
        kv_lora_rank=arch.kv_lora_rank,
        qk_rope_head_dim=arch.qk_rope_head_dim,
        device="cpu",
        kv_cache_dim=latent_row_bytes(arch, dtype) // DTYPES[dtype].itemsize,
        enable_memory_saver=False,
        index_head_dim=arch.index_head_dim,
        **{"layer_num": arch.num_layers, "start_layer": 0, "end_layer": arch.num_layers} | kwargs,
    )


@pytest.fixture
def pool() -> CompactDsaKVPool:
    """Layers 0 and 3 of four have an indexer; every byte of every buffer is random."""
    pool = make_pool(compact_pool_class([0, 3]), SMALL, FP8)
    torch.manual_seed(0)
    for buffer in [*pool.kv_buffer, *pool.index_k_with_scale_buffer.values()]:
        buffer.random_(0, 256)
    return pool


def rows(pool: CompactDsaKVPool, slots: torch.Tensor) -> list[torch.Tensor]:
    """What the host's own (slow, torch) readers find for `slots`: latents, then keys and scales."""
    found = [buffer[slots].clone() for buffer in pool.kv_buffer]
    everything = {"seq_len": SIZE + PAGE, "page_indices": torch.arange((SIZE + PAGE) // PAGE)}
    for layer in (0, 3):
        pages = pool.get_index_k_with_scale_buffer(layer)
        found += [reader.slow(pool, pages, **everything)[slots] for reader in READERS]
    return found


READERS = (index_buf_accessor.GetK, index_buf_accessor.GetS)


def assert_equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> None:
    assert all(torch.equal(x, y) and x.numel() for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("dtype", KV_DTYPES)
def test_the_published_model_takes_the_planned_bytes(dtype):
    pool = make_pool(compact_pool_class(FULL), ARCH, dtype)
    expected = slots(SIZE) * kv_bytes(ARCH, dtype, Pool.COMPACT, use_mtp=False).total
    buffers = [*pool.kv_buffer, *pool.index_k_with_scale_buffer.values()]
    assert sum(buffer.nbytes for buffer in buffers) == pool.get_kv_size_bytes() == expected
    assert pool.mem_usage == expected / 2**30
    assert list(pool.index_k_with_scale_buffer) == FULL and len(FULL) == 21
    assert type(pool).__module__ == CompactDsaKVPool.__module__  # what says whose pool a server has


@pytest.mark.parametrize("dtype", KV_DTYPES)
def test_buffers_are_the_hosts(dtype):
    ours, hosts = (make_pool(c, SMALL, dtype) for c in (compact_pool_class([0, 3]), DSATokenToKVPool))
    for layer in range(SMALL.num_layers):
        a, b = ours.get_key_buffer(layer), hosts.get_key_buffer(layer)
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
    for layer in (0, 3):
        a, b = ours.get_index_k_with_scale_buffer(layer), hosts.get_index_k_with_scale_buffer(layer)
        assert (a.shape, a.dtype, a.stride()) == (b.shape, b.dtype, b.stride()) and not a.any()
        assert a is ours.get_index_k_with_scale_buffer(layer)
    same = vars(hosts).keys() - {"index_k_with_scale_buffer", "kv_buffer", "data_ptrs", "mem_usage"}
    assert vars(ours).keys() == vars(hosts).keys()
    assert all(vars(ours)[name] == vars(hosts)[name] for name in same - {"memory_saver_adapter"})


PAGES = torch.zeros(1, dtype=torch.int32)
ACCESSES = {
    "get_index_k_with_scale_buffer": (),
    "get_index_k_continuous": (1, PAGES),
    "get_index_k_scale_continuous": (1, PAGES),
    "get_index_k_scale_buffer": (PAGES, PAGES, 1, 1),
    "set_index_k_scale_buffer": (PAGES, PAGES, PAGES),
}


@pytest.mark.parametrize("name", ACCESSES)
def test_a_layer_without_an_indexer_has_no_keys_to_read_or_write(pool, name):
    for layer in (1, 2):
        with pytest.raises(LookupError, match=rf"layer {layer} has no indexer.*SGLANG_GLM52_KV_POOL=host"):
            getattr(pool, name)(layer, *ACCESSES[name])


def test_what_names_every_layers_pages_raises(pool):
    """Disaggregation's list, and HiCache's loop over the buffers."""
    with pytest.raises(LookupError, match="layer 1 has no indexer"):
        pool.get_state_buf_infos()
    with pytest.raises(AttributeError):
        [pages.data_ptr() for pages in pool.index_k_with_scale_buffer]


def test_a_pipeline_stage_goes_by_the_models_numbers():
    pool = make_pool(compact_pool_class(FULL), ARCH, FP8, layer_num=40, start_layer=38, end_layer=78)
    assert [38 + place for place in pool.index_k_with_scale_buffer] == [layer for layer in FULL if layer >= 38]
    assert pool.get_index_k_with_scale_buffer(42) is pool.index_k_with_scale_buffer[4]
    with pytest.raises(LookupError, match="layer 41 has no indexer"):
        pool.get_index_k_with_scale_buffer(41)


def test_keys_are_written_where_the_host_reads_them(pool):
    """By the host's torch writers, which its kernels are tested against upstream."""
    slots, keys, scales = torch.tensor([64, 70, 200]), torch.randn(3, 128), torch.randn(3, 1)
    pages = pool.get_index_k_with_scale_buffer(3)
    index_buf_accessor.SetK.slow(pool, pages, slots, keys.to(torch.float8_e4m3fn))
    index_buf_accessor.SetS.slow(pool, pages, slots, scales)
    found = rows(pool, slots)[-2:]
    assert torch.equal(found[0].view(torch.float8_e4m3fn).float(), keys.to(torch.float8_e4m3fn).float())
    assert torch.equal(found[1].view(torch.float32), scales)


def test_tokens_move_with_their_keys(pool):
    """Token by token: the host takes a slot's number for a page's."""
    source, target = torch.tensor([64, 130, 131]), torch.tensor([300, 65, 10])
    others = torch.tensor([slot for slot in range(SIZE + PAGE) if slot not in target])
    moved, kept = rows(pool, source), rows(pool, others)
    pool.move_kv_cache(target, source)
    assert_equal(rows(pool, target), moved)
    assert_equal(rows(pool, others), kept)
    pool.move_kv_cache(target[:0], source[:0])
    assert_equal(rows(pool, target), moved)


@pytest.mark.parametrize("chunk_tokens", [8192, 64])
def test_tokens_survive_a_stay_outside_the_pool(pool, chunk_tokens):
    """A request of 150 tokens: two whole pages and part of a third, on other pages when it comes back."""
    pool.cpu_offloading_chunk_size = chunk_tokens
    position = torch.arange(150)
    source = torch.tensor([1, 4, 2])[position // PAGE] * PAGE + position % PAGE
    target = torch.tensor([6, 3, 5])[position // PAGE] * PAGE + position % PAGE
    others = torch.tensor([slot for slot in range(SIZE + PAGE) if slot // PAGE not in (3, 5, 6)])
    moved = rows(pool, source)
    outside = pool.get_cpu_copy(source, mamba_indices=None)  # as the host's paged allocator calls it
    for buffer in [*pool.kv_buffer, *pool.index_k_with_scale_buffer.values()]:
        buffer.random_(0, 256)
    kept = rows(pool, others)
    pool.load_cpu_copy(outside, target, mamba_indices=None)
    assert_equal(rows(pool, target), moved)
    assert_equal(rows(pool, others), kept)


def test_buffers_can_be_given_back(pool):
    pool._clear_buffers()
    assert not hasattr(pool, "kv_buffer") and not hasattr(pool, "index_k_with_scale_buffer")

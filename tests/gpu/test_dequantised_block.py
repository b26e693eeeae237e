"""Dequantising contexts that grow, as a long prompt's do, takes one block of memory, and gives what it gave without."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from sglang_glm52.arch import MODEL_TYPE

pytestmark = pytest.mark.gpu

WINDOW, ROW_BYTES = 262_144, 656
MIB = 1 << 20


@pytest.fixture
def dequantise(monkeypatch):
    """The hook as it stands around the host's function, in a server of a GLM-5.2 of that window."""
    from functools import partial

    from sglang.srt.layers.attention.dsa.dequant_k_cache import dequantize_k_cache_paged

    from sglang_glm52.host.hooks import dequantised_block

    config = SimpleNamespace(model_type=MODEL_TYPE)
    model = SimpleNamespace(hf_config=config, context_len=WINDOW)
    monkeypatch.setattr(
        dequantised_block, "get_global_server_args", lambda: SimpleNamespace(get_model_config=lambda: model)
    )
    return SimpleNamespace(
        hooked=partial(dequantised_block.dequantise, dequantize_k_cache_paged), host=dequantize_k_cache_paged
    )


@pytest.fixture(scope="module")
def cache() -> torch.Tensor:
    """[slots, 1, 656] FP8, with scales and rotary parts that are finite."""
    latents = torch.randn(WINDOW, 512, device="cuda").to(torch.float8_e4m3fn).view(torch.uint8)
    scales = torch.rand(WINDOW, 4, device="cuda").view(torch.uint8)
    rotary = torch.randn(WINDOW, 64, device="cuda", dtype=torch.bfloat16).view(torch.uint8)
    return torch.cat([latents, scales, rotary], 1).view(torch.float8_e4m3fn).unsqueeze(1)


def test_memory_does_not_grow_with_the_context(dequantise, cache) -> None:
    slots = torch.randperm(WINDOW, device="cuda", dtype=torch.int32)
    dequantise.hooked(cache, slots[:40_000])  # more than 32 MiB: takes the block
    before = torch.cuda.memory_reserved()
    for length in range(48_192, WINDOW + 1, 8192):
        assert dequantise.hooked(cache, slots[:length]).shape == (length, 1, 576)
    assert torch.cuda.memory_reserved() == before


def test_the_values_are_the_hosts(dequantise, cache) -> None:
    slots = torch.randperm(WINDOW, device="cuda", dtype=torch.int32)[:100_000]
    assert torch.equal(dequantise.hooked(cache, slots), dequantise.host(cache, slots))


def test_more_than_one_window_lies_elsewhere(dequantise, cache) -> None:
    """Where a user asks for the bf16 kernel himself, two requests may share a prefix of a whole window."""
    slots = torch.arange(WINDOW, device="cuda", dtype=torch.int32).repeat(2)
    assert dequantise.hooked(cache, slots).shape == (2 * WINDOW, 1, 576)

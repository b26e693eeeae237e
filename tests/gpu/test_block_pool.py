"""Blocks of memory of their own: taken where torch keeps all memory for itself, and used by whichever stream works."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from sglang_glm52.memory.block_pool import BlockPool, block_pool, in_block

pytestmark = pytest.mark.gpu

MIB = 1 << 20


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())


@pytest.fixture
def only_a_gibibyte(device: torch.device) -> Iterator[None]:
    """More than this process holds, whatever others do on the card."""
    torch.cuda.empty_cache()
    limit = torch.cuda.memory_reserved(device) + 1024 * MIB
    torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.get_device_properties(device).total_memory, device)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0, device)


def test_a_block_is_taken_out_of_what_torch_has_cached(only_a_gibibyte: None, device: torch.device) -> None:
    torch.empty(900 * MIB, dtype=torch.uint8, device=device)  # free again, and kept by torch
    assert BlockPool(512 * MIB, device).num_bytes == 512 * MIB


def test_another_stream_gets_a_block_that_it_can_use(device: torch.device) -> None:
    block_pool("test", 128 * MIB, device)
    with torch.cuda.stream(torch.cuda.Stream(device)):
        reserved = []
        for size in (48, 64, 96, 128):
            with in_block("test", size * MIB, 128 * MIB, device):
                torch.empty(size * MIB, dtype=torch.uint8, device=device)
            reserved.append(torch.cuda.memory_reserved(device))
    assert len(set(reserved)) == 1

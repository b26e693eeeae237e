"""What lies in a block and what does not; the block itself needs a GPU (tests/gpu/test_block_pool.py)."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch

from sglang_glm52.memory import block_pool
from sglang_glm52.memory.block_size import SMALL_BYTES, allocated

BLOCK = 4 * SMALL_BYTES


@pytest.mark.parametrize(
    "num_bytes, is_in_block",
    [(0, False), (SMALL_BYTES, False), (SMALL_BYTES + 1, True), (BLOCK, True), (BLOCK + 1, False)],
)
def test_few_bytes_and_too_many_are_common_memory(num_bytes: int, is_in_block: bool, monkeypatch) -> None:
    asked: list[tuple[str, int, int]] = []

    class Recorder:
        def __init__(self, kind: str, block_bytes: int, device: torch.device) -> None:
            self.kind, self.block_bytes = kind, block_bytes

        @contextmanager
        def allocate(self, num_bytes: int):
            asked.append((self.kind, num_bytes, self.block_bytes))
            yield

    monkeypatch.setattr(block_pool, "block_pool", Recorder)
    with block_pool.in_block("keys", num_bytes, BLOCK, torch.device("cpu")):
        pass
    assert asked == ([("keys", num_bytes, BLOCK)] if is_in_block else [])


def test_tensors_in_a_block_are_rounded_up_one_by_one() -> None:
    assert allocated(1, 513, 1024) == 512 + 1024 + 1024

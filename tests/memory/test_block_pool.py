"""What lies in a block and what does not, and when a block is taken.

CUDA's pools and streams are stood in for: whether torch does with them what is asked for needs a GPU
(tests/gpu/test_block_pool.py).
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext

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


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """ "stream": the current one; "short": how many more blocks cannot be taken; "emptied": how often the cache was."""
    state: dict[str, object] = {"stream": "serving", "short": 0, "emptied": 0}

    def take(*size: int, **options: object) -> None:
        if state["short"]:
            state["short"] -= 1
            raise torch.OutOfMemoryError

    def empty_cache() -> None:
        state["emptied"] += 1

    monkeypatch.setattr(torch.cuda, "MemPool", object)
    monkeypatch.setattr(torch.cuda, "use_mem_pool", lambda pool, device: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: state["stream"])
    monkeypatch.setattr(torch.cuda, "empty_cache", empty_cache)
    monkeypatch.setattr(block_pool.torch, "empty", take)
    monkeypatch.setattr(block_pool, "_pools", {})
    return state


def test_a_block_is_one_stream_s(cuda) -> None:
    device = torch.device("cpu")
    warm_up = block_pool.block_pool("keys", BLOCK, device)
    assert block_pool.block_pool("keys", BLOCK, device) is warm_up
    assert block_pool.block_pool("scores", BLOCK, device) is not warm_up
    cuda["stream"] = "another"
    serving = block_pool.block_pool("keys", BLOCK, device)
    assert serving is not warm_up and block_pool.block_pool("keys", BLOCK, device) is serving


def test_a_block_is_taken_again_once_torch_has_given_up_its_cache(cuda) -> None:
    cuda["short"] = 1
    block_pool.block_pool("keys", BLOCK, torch.device("cpu"))
    assert cuda["emptied"] == 1


def test_memory_that_is_short_all_the_same_is_an_error_and_leaves_no_pool(cuda) -> None:
    cuda["short"] = 2
    with pytest.raises(torch.OutOfMemoryError):
        block_pool.block_pool("keys", BLOCK, torch.device("cpu"))
    assert not block_pool._pools

"""What grows with the context of a prefill lies in blocks of GPU memory of a fixed size, each taken once.

From chunk to chunk a prompt's scores, keys and latents are a little larger than all before. In torch's common pool each
such size takes memory anew, and what was taken before stays with torch: on a prompt of 1,048,000 tokens until the card
is full and everything is freed at once, again and again. So each kind has a pool of its own, which holds one block
from its first use on and cuts every result out of that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from sglang_glm52.memory.block_size import SMALL_BYTES


class BlockPool:
    """A pool of one block on one GPU, for one stream's work: the one that is current when it is made."""

    def __init__(self, num_bytes: int, device: torch.device) -> None:
        self.num_bytes, self.device = num_bytes, device
        self.pool = torch.cuda.MemPool()
        try:
            self._take_block()
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()  # torch does so by itself when memory is short, but not while a pool is in use
            self._take_block()

    def _take_block(self) -> None:
        with torch.cuda.use_mem_pool(self.pool, self.device):
            torch.empty(self.num_bytes, dtype=torch.uint8, device=self.device)  # dropped at once; the pool keeps it

    @contextmanager
    def allocate(self, num_bytes: int) -> Iterator[None]:
        """Inside, what this thread allocates on the GPU comes out of the block; it must be `num_bytes` at most."""
        assert num_bytes <= self.num_bytes, f"{num_bytes=} do not fit the block of {self.num_bytes}"
        with torch.cuda.use_mem_pool(self.pool, self.device):
            yield


_pools: dict[str, tuple[tuple[torch.cuda.Stream, int, torch.device], BlockPool]] = {}  # kind -> what for, pool


def block_pool(kind: str, num_bytes: int, device: torch.device) -> BlockPool:
    """This process's pool of a kind on its GPU, which all layers share: one computes after the other.

    Work on another stream, as that of a warm-up is, cannot use the block: it gets a pool in place of the one before.
    """
    wanted = torch.cuda.current_stream(device), num_bytes, device
    if kind not in _pools or _pools[kind][0] != wanted:
        _pools.pop(kind, None)  # first, so that its block is torch's to free when memory is short
        _pools[kind] = wanted, BlockPool(num_bytes, device)
    return _pools[kind][1]


def in_block(kind: str, num_bytes: int, block_bytes: int, device: torch.device) -> AbstractContextManager[None]:
    """Inside, `num_bytes` are allocated in the block of `block_bytes` that `kind` has.

    Few bytes, and more than the block has, are torch's common memory.
    """
    is_in_block = SMALL_BYTES < num_bytes <= block_bytes
    return block_pool(kind, block_bytes, device).allocate(num_bytes) if is_in_block else nullcontext()

"""Where a prefill's indexer scores lie: one block of GPU memory of a fixed size, taken once.

DeepGEMM allocates its result itself, and from chunk to chunk a prompt's scores have another size. In torch's common
pool each new size that is a little larger than all before takes memory anew, and what it took before stays with torch.
So the scores have a pool of their own, which holds one block from the start and cuts every result out of that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch


class ScorePool:
    """A pool of one block on one GPU, for one stream's work: the one that is current when it is made."""

    def __init__(self, num_bytes: int, device: torch.device) -> None:
        self.num_bytes, self.device = num_bytes, device
        self.pool = torch.cuda.MemPool()
        with torch.cuda.use_mem_pool(self.pool, device):
            torch.empty(num_bytes, dtype=torch.uint8, device=device)  # dropped at once; the pool keeps its block

    @contextmanager
    def allocate(self, num_bytes: int) -> Iterator[None]:
        """Inside, what this thread allocates on the GPU comes out of the block; it must be `num_bytes` at most."""
        assert num_bytes <= self.num_bytes, f"{num_bytes=} do not fit the workspace of {self.num_bytes}"
        with torch.cuda.use_mem_pool(self.pool, self.device):
            yield


@cache
def score_pool(num_bytes: int, device: torch.device) -> ScorePool:
    """This process's pool on a GPU, which all layers share: one computes its scores after the other."""
    return ScorePool(num_bytes, device)

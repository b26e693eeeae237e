"""Runs one function over many items on threads: torch and hashing let go of the interpreter lock while they work."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

from sglang_glm52.errors import ConfigError

MAX_DEFAULT = 32  # each takes some 50 MB
# Beside an H200, 4 workers on 16 cores convert 4.1 GB/s of FP8 to a file system in memory, 8 convert 6.5 and 16 convert
# 6.7: reading, hashing and writing are the limit.
MAX_DEFAULT_GPU = 16
Item = TypeVar("Item")
Result = TypeVar("Result")


def num_workers(asked: int | None, most: int = MAX_DEFAULT) -> int:
    """As many as were asked for, by default one a CPU core up to `most`; ConfigError below 1."""
    if asked is None:
        return min(len(os.sched_getaffinity(0)), most)
    if asked < 1:
        raise ConfigError(f"--workers {asked}: expected 1 or more")
    return asked


def run_all(work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> list[Result]:
    """[work(item), ...]. After an error or Ctrl-C what has not begun is dropped; one worker needs no pool."""
    if workers == 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Torch's own threads would compete with the workers, and split a sum differently on another machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""How much memory one kind of a prefill's results keeps: a block of fixed size, or nearly nothing (`block_pool.py`)."""

from __future__ import annotations

ALLOCATION = 512  # bytes that torch rounds each allocation up to
SMALL_BYTES = 32 << 20  # up to here memory is torch's common one: a server of short prompts takes no blocks


def allocated(*num_bytes: int) -> int:
    """What tensors of these sizes take together in a block."""
    return sum(-(-each // ALLOCATION) * ALLOCATION for each in num_bytes)


def memory_kept(largest: int, block_bytes: int) -> int:
    """What a server keeps whose largest batch takes `largest` bytes of a kind: the whole block, once it takes any."""
    return largest if largest <= SMALL_BYTES else block_bytes

"""When a prefill with an FP8 cache should attend with the bf16 kernel, for which its context is dequantised.

FlashMLA has a kernel for prefills, which reads latents in bf16, and one for decode steps, which reads the FP8 cache
itself. For the former the host dequantises a batch's whole contexts in each layer, 656 bytes read and 1,152 written a
position. That pays while a row saves more than its share of it costs; the host's own rule for Blackwell, up to 512
positions a row, is taken here. It also takes memory, 1,152 bytes a position, so contexts of a batch together may be one
window at most: many requests on a long common prefix would need many times the memory of the cache they share. A block
for one window holds them (`block_pool.py`).
"""

from __future__ import annotations

from sglang_glm52.memory.block_size import allocated

POSITIONS_A_ROW = 512


def is_worth_dequantising(num_rows: int, num_positions: int, window: int) -> bool:
    """Whether a batch of `num_rows` new tokens over contexts of `num_positions` together should be dequantised."""
    return num_positions < num_rows * POSITIONS_A_ROW and num_positions <= window


def latent_bytes(num_positions: int) -> int:
    """What `num_positions` dequantised take: 512 latent dimensions and 64 rotary ones, bf16."""
    return allocated(num_positions * (512 + 64) * 2)

"""Turn the bytes that a compact KV pool saves into tokens.

The host assumes that its pool keeps indexer keys for every layer when it works out how many tokens fit in the memory
that `--mem-fraction-static` leaves. What one token counts for is worked out in one method, which is wrapped;
`memory/compact_cell.py` says by which number the result is replaced and why. Read in 0.5.13.post1
(`model_executor/pool_configurator.py`, `DefaultPoolConfigurator._compute_cell_size`). Without the hook a compact pool
leaves 12 % of the host's bytes unused instead of holding 13.9 % more tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sglang_glm52.memory.compact_cell import PoolShape, compact_cell
from sglang_glm52.memory.compact_pool import layers_with_keys


def count_compact_bytes(original: Callable[..., int], self: Any, mr: Any, num_layers: int) -> int:
    """AROUND `DefaultPoolConfigurator._compute_cell_size`; `mr` is the model runner."""
    host_cell = original(self, mr, num_layers)
    layers = layers_with_keys(mr)
    if layers is None:
        return host_cell
    arch = mr.model.arch
    shape = PoolShape(
        latent_bytes=mr.calculate_mla_kv_cache_dim() * mr.kv_cache_dtype.itemsize,
        key_bytes=arch.index_head_dim + 4,
        num_layers=num_layers,
        num_with_keys=len(layers),
        num_draft_layers=arch.num_mtp_layers if mr.spec_algorithm.is_eagle() else 0,
    )
    return compact_cell(host_cell, shape)

"""KV cache: bytes a token, and how many tokens SGLang makes room for. Tensor parallelism splits none of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.errors import ConfigError
from sglang_glm52.memory.compact_cell import PoolShape, compact_cell
from sglang_glm52.planner.constants import FP8_SCALE_TILE, PAGE_SIZE

FP8 = "fp8_e4m3"
KV_DTYPES = (FP8, "bfloat16")
_ITEM_BYTES = {FP8: 1, "bfloat16": 2, "float32": 4}


class Pool(Enum):
    """Which KV pool holds the cache; the value is the option's spelling."""

    COMPACT = "compact"  # indexer keys in the layers that have an indexer
    HOST = "host"  # SGLang's own: indexer keys in every layer
    CPU = "cpu"  # of the CPU engine: rows in the model's type, keys in the layers that have an indexer


@dataclass(frozen=True, slots=True)
class KvBytes:
    """Bytes a token. `mtp` is the draft model's pool, 0 without one; `unread` are indexer keys that nothing reads."""

    latents: int
    index_keys: int
    unread: int  # of index_keys
    mtp: int
    accounted: int  # what the host divides free memory by to get tokens; the draft's pool is not in it

    @property
    def target(self) -> int:
        """What the pool of the model itself holds."""
        return self.latents + self.index_keys

    @property
    def total(self) -> int:
        return self.target + self.mtp


def kv_bytes(arch: Glm52Arch, dtype: str, pool: Pool, *, use_mtp: bool) -> KvBytes:
    """Bytes a token of `pool` with --kv-cache-dtype `dtype`.

    The host counts an FP8 latent as one byte a number and leaves out its scales and the two-byte rotary part
    (`DefaultPoolConfigurator._compute_cell_size`), 80 bytes a layer that its pool does allocate. The compact pool is
    sized to take the bytes that the host's would (`memory/compact_cell.py`).
    """
    row, key = latent_row_bytes(arch, dtype), index_key_bytes(arch, pool, dtype)
    num_full = arch.indexer_types.count("full")
    num_with_keys = arch.num_layers if pool is Pool.HOST else num_full
    latents, index_keys = row * arch.num_layers, key * num_with_keys
    host_key = index_key_bytes(arch, Pool.HOST, dtype)
    host_cell = (_latent_width(arch) * _ITEM_BYTES[dtype] + host_key) * arch.num_layers
    num_draft_layers = arch.num_mtp_layers if use_mtp else 0
    shape = PoolShape(
        latent_bytes=row,
        key_bytes=key,
        num_layers=arch.num_layers,
        num_with_keys=num_with_keys,
        num_draft_layers=num_draft_layers,
    )
    return KvBytes(
        latents=latents,
        index_keys=index_keys,
        unread=key * (num_with_keys - num_full),
        mtp=(row + key) * num_draft_layers,
        accounted=compact_cell(host_cell, shape) if pool is Pool.COMPACT else host_cell,
    )


def latent_row_bytes(arch: Glm52Arch, dtype: str) -> int:
    """One token's latent and rotary key in one layer.

    FP8: a byte a number of the latent, one float32 scale a tile of 128, the rotary part in bf16:
    512 + 4 * 4 + 64 * 2 = 656 bytes (`ModelRunner.calculate_mla_kv_cache_dim`). Otherwise both parts in `dtype`.
    """
    if dtype != FP8:
        return _latent_width(arch) * _ITEM_BYTES[dtype]
    if arch.kv_lora_rank % FP8_SCALE_TILE:
        raise ConfigError(
            f"kv_lora_rank = {arch.kv_lora_rank}; an FP8 cache needs a multiple of {FP8_SCALE_TILE}: use bfloat16"
        )
    return arch.kv_lora_rank + 4 * (arch.kv_lora_rank // FP8_SCALE_TILE) + 2 * arch.qk_rope_head_dim


def index_key_bytes(arch: Glm52Arch, pool: Pool, dtype: str) -> int:
    """One token's indexer key in one layer: 128 FP8 numbers and a float32 scale, 132 bytes, whatever the cache's type.

    Source: `DSATokenToKVPool.__init__`, `index_k_with_scale_buffer`. On the CPU engine a row in the model's type.
    """
    if pool is Pool.CPU:
        return arch.index_head_dim * _ITEM_BYTES[dtype]
    return arch.index_head_dim + 4 * (arch.index_head_dim // FP8_SCALE_TILE)


def pool_tokens(free_bytes: float, weights: int, mem_fraction_static: float, kv: KvBytes) -> int:
    """`max_total_num_tokens` of a server, 0 if there is room for none.

    The host takes what is free once the weights are loaded, less the share (1 - mem_fraction_static) of what was free
    before, divides by its bytes a token and rounds down to whole pages (`_profile_available_bytes`,
    `DefaultPoolConfigurator.calculate_pool_sizes`).

    Args:
        free_bytes: free on the GPU before weights are loaded.
        weights: of the model itself. A draft model is loaded later and does not count.
    """
    rest = free_bytes - weights - free_bytes * (1 - mem_fraction_static)
    return max(0, int(rest) // kv.accounted // PAGE_SIZE * PAGE_SIZE)


def slots(tokens: int) -> int:
    """Rows of a pool of `tokens`: one page more, which takes the writes of padding."""
    return tokens + PAGE_SIZE


def _latent_width(arch: Glm52Arch) -> int:
    return arch.kv_lora_rank + arch.qk_rope_head_dim

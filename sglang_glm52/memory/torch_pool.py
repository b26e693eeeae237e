"""KV pool of the CPU engine: latents of every layer, indexer keys of the layers that have an indexer.

The host's pool stores indexer keys as FP8 pages and reads and writes through Triton kernels. Here they are rows in the
model's dtype, so that float32 stays float32.
"""

from __future__ import annotations

import torch
from sglang.srt.layers.radix_attention import RadixAttention
from sglang.srt.mem_cache.memory_pool import DSATokenToKVPool, MLATokenToKVPool


class TorchDsaKVPool(DSATokenToKVPool):
    """Latents [slots, 1, kv_lora + rope] a layer, and keys [slots, index_head_dim] from the first write of a layer on.

    Slots are `size + page_size`, as in the host's pools; the page of slot 0 takes the writes of padding.
    """

    def __init__(
        self,
        size: int,
        page_size: int,
        kv_lora_rank: int,
        dtype: torch.dtype,
        qk_rope_head_dim: int,
        layer_num: int,
        device: str,
        index_head_dim: int,
        enable_memory_saver: bool,
        kv_cache_dim: int,
        start_layer: int | None = None,
        end_layer: int | None = None,
    ) -> None:
        del kv_cache_dim  # the FP8 layout's width; rows here are plain
        self.index_head_dim = index_head_dim
        self.index_k: dict[int, torch.Tensor] = {}
        MLATokenToKVPool.__init__(
            self,
            size,
            page_size,
            dtype,
            kv_lora_rank,
            qk_rope_head_dim,
            layer_num,
            device,
            enable_memory_saver,
            start_layer,
            end_layer,
        )

    def set_index_k(self, layer_id: int, loc: torch.Tensor, keys: torch.Tensor) -> None:
        """Write keys [num_tokens, index_head_dim] of one layer at slots `loc` [num_tokens]."""
        if layer_id not in self.index_k:
            self.index_k[layer_id] = keys.new_zeros(self.size + self.page_size, self.index_head_dim)
        self.index_k[layer_id][loc] = keys

    def get_index_k(self, layer_id: int) -> torch.Tensor:
        """All slots' keys of one layer, [slots, index_head_dim]."""
        return self.index_k[layer_id]

    def set_mla_kv_buffer(
        self, layer: RadixAttention, loc: torch.Tensor, cache_k_nope: torch.Tensor, cache_k_rope: torch.Tensor
    ) -> None:
        rows = torch.cat([cache_k_nope, cache_k_rope], dim=-1).to(self.dtype)
        self.kv_buffer[layer.layer_id - self.start_layer][loc] = rows

    def move_kv_cache(self, tgt_loc: torch.Tensor, src_loc: torch.Tensor) -> None:
        MLATokenToKVPool.move_kv_cache(self, tgt_loc, src_loc)
        for keys in self.index_k.values():
            keys[tgt_loc.flatten().long()] = keys[src_loc.flatten().long()]

    def get_cpu_copy(self, indices: torch.Tensor) -> dict:
        latents = MLATokenToKVPool.get_cpu_copy(self, indices)
        return {"latents": latents, "index_k": {layer: keys[indices] for layer, keys in self.index_k.items()}}

    def load_cpu_copy(self, kv_cache_cpu_dict: dict, indices: torch.Tensor) -> None:
        MLATokenToKVPool.load_cpu_copy(self, kv_cache_cpu_dict["latents"], indices)
        for layer, keys in kv_cache_cpu_dict["index_k"].items():
            self.index_k[layer][indices] = keys

    def get_kv_size_bytes(self) -> int:
        keys = sum(keys.nbytes for keys in self.index_k.values())
        return MLATokenToKVPool.get_kv_size_bytes(self) + keys

    def _clear_buffers(self) -> None:
        del self.kv_buffer
        self.index_k.clear()

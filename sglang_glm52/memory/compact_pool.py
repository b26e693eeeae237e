"""KV pool for CUDA with indexer keys only in the layers that have an indexer.

The host's pool keeps a latent and an indexer key for each token in each of the 78 layers: with an FP8 cache
78 * (656 + 132) = 61,464 bytes a token. 57 layers share an earlier layer's selection and never write or read a key.
Without those keys it is 78 * 656 + 21 * 132 = 53,940 bytes. `compact_cell.py` turns the difference into tokens.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from sglang.srt.mem_cache.memory_pool import DSATokenToKVPool, MLATokenToKVPool
from sglang.srt.platforms import current_platform

from sglang_glm52.arch import is_glm52
from sglang_glm52.memory.pool_choice import chooses_compact_pool

if TYPE_CHECKING:
    from sglang.srt.model_executor.model_runner import ModelRunner

logger = logging.getLogger(__name__)


def is_target(runner: ModelRunner) -> bool:
    """Whether `runner` runs GLM-5.2 itself, not its MTP layer and not another model."""
    return is_glm52(runner.model_config.hf_config) and not runner.is_draft_worker


def layers_with_keys(runner: ModelRunner) -> frozenset[int] | None:
    """The layers of a runner's model that have an indexer; None where the host's pool stays as it is.

    It stays for other models, for the MTP layer, whose only layer has an indexer, and where `pool_choice.py` says so.
    """
    if not is_target(runner) or not chooses_compact_pool(runner.server_args):
        return None
    kinds, stage = runner.model.arch.indexer_types, range(runner.start_layer, runner.end_layer)
    full = frozenset(layer for layer in stage if kinds[layer] == "full")
    return full if len(full) < len(stage) else None


class KeyPages(dict[int, torch.Tensor]):
    """Pages of indexer keys by place in the pool, as the host indexes its list; a layer without an indexer has none."""

    def __init__(self, start_layer: int, pages: Mapping[int, torch.Tensor]) -> None:
        super().__init__(pages)
        self.start_layer = start_layer

    def __missing__(self, place: int) -> torch.Tensor:
        raise LookupError(
            f"layer {self.start_layer + place} has no indexer, so the compact KV pool keeps no indexer keys for it; "
            "set SGLANG_GLM52_KV_POOL=host for SGLang's pool, which has room for keys in every layer"
        )


class CompactDsaKVPool(DSATokenToKVPool):
    """The host's pool with pages of keys for `indexer_layers` alone.

    A page is the host's: [page_size * 128 FP8 numbers | page_size float32 scales] bytes, and so are the methods that
    read and write one layer. What goes over all layers stands here. The host's `get_state_buf_infos` and its host-side
    pools name every layer's pages and raise; `pool_choice.py` has the options that would come to them.
    """

    indexer_layers: frozenset[int]  # by the model's numbers; set by `compact_pool_class`

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
        assert (page_size, index_head_dim) == (64, self.quant_block_size), f"{page_size=} {index_head_dim=}"
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
            use_dsa=True,
            override_kv_cache_dim=kv_cache_dim if kv_cache_dim != kv_lora_rank + qk_rope_head_dim else None,
        )
        self.index_head_dim = index_head_dim
        places = [i for i in range(layer_num) if self.start_layer + i in self.indexer_layers]
        shape = (size + page_size + 1) // page_size, page_size * (index_head_dim + 4)
        kwargs = {"dtype": self.index_k_with_scale_buffer_dtype, "device": device}
        with torch.cuda.use_mem_pool(self.custom_mem_pool) if self.custom_mem_pool else nullcontext():
            pages = {place: torch.zeros(shape, **kwargs) for place in places}
        self.index_k_with_scale_buffer = KeyPages(self.start_layer, pages)
        logger.info("Compact KV pool: indexer keys in %d of %d layers", len(places), layer_num)
        self._finalize_allocation_log(size)

    def move_kv_cache(self, tgt_loc: torch.Tensor, src_loc: torch.Tensor) -> None:
        """Copy tokens' latents and keys from slots `src_loc` to `tgt_loc`; the host moves whole pages of keys here."""
        MLATokenToKVPool.move_kv_cache(self, tgt_loc, src_loc)
        target, source = tgt_loc.flatten().long(), src_loc.flatten().long()
        size = self.page_size
        for pages in self.index_k_with_scale_buffer.values():
            for part in self._by_token(pages):
                part[target // size, target % size] = part[source // size, source % size]

    def _by_token(self, pages: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Views [pages, page_size, 128] of the keys and [pages, page_size, 4] of the scales."""
        keys, scales = pages.split([self.page_size * self.index_head_dim, self.page_size * 4], dim=1)
        return keys.unflatten(1, (self.page_size, -1)), scales.unflatten(1, (self.page_size, -1))

    def get_cpu_copy(self, indices: torch.Tensor, mamba_indices: None = None) -> dict:
        """A copy on the CPU of the slots `indices` of one request, from its position 0 on.

        The host takes one when it retracts a request under `--disaggregation-mode decode`, and nowhere else.
        """
        latents = MLATokenToKVPool.get_cpu_copy(self, indices)
        chunks = self._page_chunks(indices)
        keys = {
            place: [pages[chunk].to("cpu", non_blocking=True) for chunk in chunks]
            for place, pages in self.index_k_with_scale_buffer.items()
        }
        current_platform.synchronize()
        return {"kv": latents, "index_k": keys}

    def load_cpu_copy(self, kv_cache_cpu_dict: dict, indices: torch.Tensor, mamba_indices: None = None) -> None:
        """Write what `get_cpu_copy` returned to the slots `indices`, as many and in the same order."""
        MLATokenToKVPool.load_cpu_copy(self, kv_cache_cpu_dict["kv"], indices)
        chunks = self._page_chunks(indices)
        for place, copies in kv_cache_cpu_dict["index_k"].items():
            pages = self.index_k_with_scale_buffer[place]
            for chunk, copy in zip(chunks, copies, strict=True):
                pages[chunk] = copy.to(pages.device, non_blocking=True)
        current_platform.synchronize()

    def _page_chunks(self, indices: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Numbers of the pages that `indices` fill one after the other, as many at a time as the host copies."""
        pages = indices[:: self.page_size] // self.page_size
        return pages.split(max(1, self.cpu_offloading_chunk_size // self.page_size))

    def get_kv_size_bytes(self) -> int:
        keys = sum(pages.nbytes for pages in self.index_k_with_scale_buffer.values())
        return MLATokenToKVPool.get_kv_size_bytes(self) + keys


def compact_pool_class(indexer_layers: Iterable[int]) -> type[CompactDsaKVPool]:
    """The class for one model's layers, to be called as the host calls its own class."""
    attributes = {"indexer_layers": frozenset(indexer_layers), "__module__": __name__}  # an ABC's would be `abc`
    return type("CompactDsaKVPool", (CompactDsaKVPool,), attributes)

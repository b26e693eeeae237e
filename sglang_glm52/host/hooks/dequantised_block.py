"""Dequantise a prefill's context into a block of fixed size.

The host assumes that torch's allocator finds room for the result, 1,152 bytes a position, in what the last one left.
In a long prompt each chunk's is 9 MB larger than the one before. Read in 0.5.13.post1 (`layers/attention/dsa/
dequant_k_cache.py`, called in `dsa_backend.py`). Without the hook a prompt of 1,048,000 tokens filled an H200 and had
torch empty it, six times (`memory/block_pool.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from sglang.srt.server_args import get_global_server_args

from sglang_glm52.arch import is_glm52
from sglang_glm52.memory.block_pool import in_block
from sglang_glm52.memory.dequantised_cache import latent_bytes


def dequantise(
    original: Callable[..., torch.Tensor],
    quant_k_cache: torch.Tensor,
    page_table_1_flattened: torch.Tensor,
    *args: Any,
    **kwargs: Any,
) -> torch.Tensor:
    """AROUND `dequantize_k_cache_paged` as the DSA backend calls it.

    More than one window is dequantised only where a user asks for `flashmla_sparse` himself, and not in the block.
    """
    model = get_global_server_args().get_model_config()
    if not is_glm52(model.hf_config):
        return original(quant_k_cache, page_table_1_flattened, *args, **kwargs)
    sizes = latent_bytes(len(page_table_1_flattened)), latent_bytes(model.context_len)
    with in_block("latents", *sizes, quant_k_cache.device):
        return original(quant_k_cache, page_table_1_flattened, *args, **kwargs)

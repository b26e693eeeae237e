"""Which ranks attend to selected slots with this package's kernel, which pads no heads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sglang_glm52.env import settings
from sglang_glm52.host.served_model import serves_glm52
from sglang_glm52.kernels.sparse_mla.kernel import HEADS

if TYPE_CHECKING:
    from sglang.srt.layers.attention.dsa_backend import DeepseekSparseAttnBackend


def is_attended_here(backend: DeepseekSparseAttnBackend) -> bool:
    """Whether the kernel takes the heads and the cache of this rank, and nobody asked for the host's."""
    is_taken = backend.num_q_heads in HEADS and backend.dsa_kv_cache_store_fp8
    if not is_taken or settings().sparse_attention != "fused":
        return False
    return serves_glm52()

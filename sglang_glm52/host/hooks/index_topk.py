"""Select the indexer's best positions with this package's top-k.

The host assumes that FlashInfer's top-k, the one that is exact in contexts of any length, is quick in the form that a
CUDA graph takes. That form gives one multiprocessor a row, however long it is. `kernels/index_topk` selects in its
place, which shares a row out and writes positions in ascending order, so that equal inputs select equal bits. Prefills
call it themselves (`memory/bounded_indexer.py`). Read in 0.5.13.post1 (`layers/attention/dsa/dsa_topk_backend.py`,
`topk_transform`). Without the hook the same positions are selected, in no order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from sglang.srt.environ import envs
from sglang.srt.layers.attention.dsa.dsa_topk_backend import DSATopKBackend, TopkTransformMethod

from sglang_glm52.host.served_model import serves_glm52
from sglang_glm52.memory.index_selection import select

if TYPE_CHECKING:
    from sglang.srt.layers.attention.dsa_backend import DSAMetadata


def select_positions(
    original: Callable[..., torch.Tensor],
    self: DSATopKBackend,
    logits: torch.Tensor,
    lengths: torch.Tensor,
    topk: int,
    topk_transform_method: TopkTransformMethod,
    attn_metadata: DSAMetadata,
    cu_seqlens_q_topk: torch.Tensor | None = None,
    topk_indices_offset: torch.Tensor | None = None,
    row_starts: torch.Tensor | None = None,
    batch_idx_list: list[int] | None = None,
    force_unfused_topk: bool = False,
) -> torch.Tensor:
    """AROUND `DSATopKBackend.topk_transform`; `batch_idx_list` is context parallelism's."""
    is_ours = self.is_flashinfer() and batch_idx_list is None
    if is_ours and serves_glm52():
        is_fused = envs.SGLANG_DSA_FUSE_TOPK.get() and not force_unfused_topk
        method = topk_transform_method if is_fused else None
        return select(logits, lengths, topk, attn_metadata, method, row_starts)
    return original(
        self,
        logits,
        lengths,
        topk,
        topk_transform_method,
        attn_metadata,
        cu_seqlens_q_topk,
        topk_indices_offset,
        row_starts,
        batch_idx_list,
        force_unfused_topk,
    )

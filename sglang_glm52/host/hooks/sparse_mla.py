"""Attend to selected slots with this package's kernel, or with FlashMLA's for all heads of a share of the rows.

The host assumes that a rank has 64 heads or more for FlashMLA's kernels: it pads the queries of fewer to 64, and of the
work of a rank of TP 8 seven eighths are padding; a decode step's attention is two kernels, and two more that pad.
`kernels/sparse_mla` does it in one launch without padding, and reads the FP8 cache in prefills too, which need not be
dequantised then (`sparse_prefill.py`). Of a large prefill the ranks of attention TP exchange queries, so that each has
all heads for a share of the rows, which FlashMLA's kernel reads the FP8 cache for. Read in 0.5.13.post1
(`layers/attention/dsa_backend.py`, `_forward_flashmla_kv`). Without the hook, or with
SGLANG_GLM52_SPARSE_ATTENTION=host, results are the same but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from sglang.srt.layers.dp_attention import get_attention_tp_group

from sglang_glm52.attention.few_heads import is_attended_here
from sglang_glm52.attention.row_exchange import own_rows, to_heads, to_rows
from sglang_glm52.attention.row_sharing import is_shared_out
from sglang_glm52.kernels.sparse_mla import sparse_mla

if TYPE_CHECKING:
    from sglang.srt.layers.attention.dsa_backend import DeepseekSparseAttnBackend


def attend(
    original: Callable[..., torch.Tensor],
    self: DeepseekSparseAttnBackend,
    q_all: torch.Tensor,
    kv_cache: torch.Tensor,
    v_head_dim: int,
    sm_scale: float,
    layer: Any,
    metadata: Any,
    page_table_1: torch.Tensor,
) -> torch.Tensor:
    """AROUND `DeepseekSparseAttnBackend._forward_flashmla_kv`.

    Args:
        q_all: [rows, heads of a rank, 576]; page_table_1: [rows, topk] int32, -1 for none.

    Returns:
        [rows, heads of a rank, v_head_dim].
    """
    query = q_all.view(-1, layer.tp_q_head_num, layer.head_dim)
    if is_shared_out(query):
        return _attend_for_own_rows(
            original, self, query, kv_cache, v_head_dim, sm_scale, metadata.dsa_cache_seqlens_int32, page_table_1
        )
    if not is_attended_here(self):
        return original(self, q_all, kv_cache, v_head_dim, sm_scale, layer, metadata, page_table_1)
    q_nope, q_rope = query[..., :v_head_dim], query[..., v_head_dim:]
    return sparse_mla(q_nope, q_rope, kv_cache.view(-1, self.kv_cache_dim), page_table_1.contiguous(), sm_scale)


def _attend_for_own_rows(
    original: Callable[..., torch.Tensor],
    self: DeepseekSparseAttnBackend,
    query: torch.Tensor,
    kv_cache: torch.Tensor,
    v_head_dim: int,
    sm_scale: float,
    lengths: torch.Tensor,
    page_table_1: torch.Tensor,
) -> torch.Tensor:
    """`query` [rows, heads of a rank, 576] and `lengths` [rows], of selected slots -> [rows, heads of a rank, dim]."""
    group = get_attention_tp_group().device_group
    rows = to_rows(query, group)
    lengths = own_rows(lengths[: len(query)].unsqueeze(1), group, fill=1).squeeze(1)
    plan = SimpleNamespace(
        dsa_cache_seqlens_int32=lengths, flashmla_metadata=self._compute_flashmla_metadata(lengths, seq_len_q=1)
    )
    layer = SimpleNamespace(tp_q_head_num=rows.shape[1], head_dim=rows.shape[2])
    slots = own_rows(page_table_1, group, fill=-1)
    attended = original(self, rows, kv_cache, v_head_dim, sm_scale, layer, plan, slots)
    return to_heads(attended.reshape(len(rows), rows.shape[1], v_head_dim), len(query), group)

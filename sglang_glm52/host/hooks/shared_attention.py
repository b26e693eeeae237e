"""Share a prefill's attention out by rows over the ranks of attention TP.

The host assumes that a rank attends with its own heads for all rows, and pads them to the 64 that FlashMLA's prefill
kernel takes. Unless SGLANG_GLM52_PREFILL_ROWS is "all" the ranks of a large batch exchange queries, so that each has
all heads for a share of the rows (`attention/row_exchange.py`). Read in 0.5.13.post1
(`layers/attention/dsa_backend.py`, `_forward_flashmla_sparse`). Without the hook seven eighths of the kernel's work
are padding at TP 8.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from sglang.srt.layers.dp_attention import get_attention_tp_group

from sglang_glm52.attention.row_exchange import own_rows, to_heads, to_rows
from sglang_glm52.attention.row_sharing import is_shared_out


def attend(
    original: Callable[..., torch.Tensor],
    self: Any,
    q_all: torch.Tensor,
    kv_cache: torch.Tensor,
    v_head_dim: int,
    page_table_1: torch.Tensor,
    sm_scale: float,
) -> torch.Tensor:
    """AROUND `DeepseekSparseAttnBackend._forward_flashmla_sparse`.

    Args:
        q_all: [rows, heads of a rank, 576]; page_table_1: [rows, topk] int32, -1 for none.

    Returns:
        [rows, heads of a rank, v_head_dim].
    """
    if not is_shared_out(q_all):
        return original(self, q_all, kv_cache, v_head_dim, page_table_1, sm_scale)
    group = get_attention_tp_group().device_group
    rows = to_rows(q_all, group)
    attended = original(self, rows, kv_cache, v_head_dim, own_rows(page_table_1, group, fill=-1), sm_scale)
    return to_heads(attended, len(q_all), group)

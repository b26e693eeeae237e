"""Whether the ranks of attention TP share a batch's attention out by rows instead of heads (`row_exchange.py`)."""

from __future__ import annotations

import torch
from sglang.srt.layers.dp_attention import get_attention_tp_size

from sglang_glm52.env import settings
from sglang_glm52.host.served_model import serves_glm52

MIN_ROWS = 1024  # a batch of fewer is over before its queries are exchanged


def is_shared_out(q_all: torch.Tensor) -> bool:
    """For the queries of a batch, [rows, ...]; the same on every rank of the group, which have the same batch."""
    if settings().prefill_rows == "all" or len(q_all) < MIN_ROWS or get_attention_tp_size() == 1:
        return False
    if q_all.is_cuda and torch.cuda.is_current_stream_capturing():  # a decode step of as many rows
        return False
    return serves_glm52()

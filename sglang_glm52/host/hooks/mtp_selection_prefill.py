"""Keep the last prompt token's selection for the first draft round, or forget what the pool row's last user left.

The host assumes that nothing of a prefill outlives it but the KV cache and a hidden state. A draft round shares what
the last accepted token selected (`mtp_selection_decode`), here the last row of each request's prompt. On CUDA a
prefill's selection cannot be read by decode kernels (short prompts make none, long ones may count within the batch's
keys instead of the pool), so there the first round selects for itself. Read in 0.5.13.post1
(`speculative/eagle_worker_v2.py`, `EagleDraftWorker._draft_extend_for_prefill`). Without the hook a request could read
the selection of another one that used its pool row before and had as many tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from sglang_glm52.host.draft_worker import round_selections


def keep_after_prefill(original: Callable[..., Any], self: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
    """AROUND `EagleDraftWorker._draft_extend_for_prefill`."""
    selections = round_selections(self)
    if selections is None:
        return original(self, batch, *args, **kwargs)
    selections.begin_extend()
    draft_input = original(self, batch, *args, **kwargs)
    if batch.seq_lens.is_cuda:
        selections.forget(batch.req_pool_indices)
    else:
        last_rows = torch.tensor(batch.extend_lens).cumsum(0) - 1
        num_pool_rows = self.req_to_token_pool.req_to_token.shape[0]
        selections.keep(batch.req_pool_indices, last_rows, batch.seq_lens, num_pool_rows)
    return draft_input

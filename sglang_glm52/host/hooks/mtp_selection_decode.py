"""Keep the last accepted token's selection for the next draft round.

The host assumes that the first step of a draft round is where a shared selection is made, which is one token late: the
model shares what the last accepted token selected, and that token is computed in the draft-extend pass before the
round. Which of that pass's rows it is, only the draft worker knows, so its method is wrapped. Read in 0.5.13.post1
(`speculative/eagle_worker_v2.py`, `EagleDraftWorker._draft_extend_for_decode`). Without the hook each round's first
step selects for itself, and drafts are accepted less often.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from sglang_glm52.host.draft_worker import round_selections


def keep_after_verify(original: Callable[..., None], self: Any, batch: Any, batch_result: Any) -> None:
    """AROUND `EagleDraftWorker._draft_extend_for_decode`."""
    selections = round_selections(self)
    if selections is None:
        return original(self, batch, batch_result)
    selections.begin_extend()
    original(self, batch, batch_result)
    first = torch.arange(len(batch.seq_lens), device=batch.seq_lens.device) * self.speculative_num_draft_tokens
    selections.keep(
        batch.req_pool_indices,
        first + batch_result.accept_lens - 1,
        batch_result.new_seq_lens,
        self.req_to_token_pool.req_to_token.shape[0],
    )
    return None

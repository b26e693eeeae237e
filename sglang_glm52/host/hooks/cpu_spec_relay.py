"""Hand a draft round what the round before it left, on the CPU engine with the overlap schedule.

The host assumes streams and Triton: what a round leaves for the next lies in buffers by request-pool row, and is
gathered by a kernel after the indices were recorded on a stream, which torch refuses for a CPU stream. The method is
replaced; other models reach it on the CPU engine only with speculation, which fails there without this plugin. Read in
0.5.13.post1 (`managers/overlap_utils.py`, `FutureMap._resolve_spec_extras`). Without the hook speculation ends the
scheduler unless --disable-overlap-schedule is given.
"""

from __future__ import annotations

from typing import Any


def take_relayed(self: Any, batch: Any) -> None:
    """REPLACE `FutureMap._resolve_spec_extras`."""
    draft_input = batch.spec_info
    if draft_input is None:  # a prefill has no round before it
        return
    rows = draft_input.future_indices
    draft_input.topk_p = self.topk_p_buf[rows]
    draft_input.topk_index = self.topk_index_buf[rows]
    draft_input.bonus_tokens = self.output_tokens_buf[rows]
    draft_input.hidden_states = self.hidden_states_buf[rows]

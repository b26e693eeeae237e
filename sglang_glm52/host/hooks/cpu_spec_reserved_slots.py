"""Enter the slots that a draft round reserves, on the CPU engine.

The host assumes an accelerator for speculation: slots for the round's tokens are entered in the request pool's table by
a Triton kernel, on every device. The function that launches it is replaced; other models reach it on the CPU engine
only with speculation, which fails there without this plugin. Read in 0.5.13.post1
(`speculative/triton_ops/cache_locs.py`, called by `EagleDraftInputV2Mixin.prepare_for_decode`). Without the hook the
first draft round ends the scheduler with "0 active drivers".
"""

from __future__ import annotations

import torch

from sglang_glm52.speculative.slots import write_slots


def enter_reserved_slots(
    req_pool_indices: torch.Tensor,
    req_to_token: torch.Tensor,
    start_offset: torch.Tensor,
    end_offset: torch.Tensor,
    out_cache_loc: torch.Tensor,
    batch_size: int,
) -> None:
    """REPLACE `assign_req_to_token_pool_func`."""
    write_slots(req_to_token, req_pool_indices, start_offset, end_offset, out_cache_loc)

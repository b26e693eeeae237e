"""Find the slots of the tokens to verify, on the CPU engine.

The host assumes that speculation runs on one of its accelerators: for any other device the function that reads the
slots from the request pool's table falls through and returns None. It is replaced; other models reach it on the CPU
engine only with speculation, which fails there without this plugin. Read in 0.5.13.post1
(`speculative/triton_ops/cache_locs.py`, called by `EagleVerifyInputV2Mixin.prepare_for_v2_verify`). Without the hook
the target model writes its keys nowhere and fails.
"""

from __future__ import annotations

import torch

from sglang_glm52.speculative.slots import read_slots


def find_verify_slots(
    req_pool_indices: torch.Tensor,
    req_to_token: torch.Tensor,
    start_offset: torch.Tensor,
    end_offset: torch.Tensor,
    batch_size: int,
    draft_token_num: int,
    device: torch.device | str,
) -> torch.Tensor:
    """REPLACE `assign_extend_cache_locs_func`; [batch_size * draft_token_num] int64."""
    return read_slots(req_to_token, req_pool_indices, start_offset, draft_token_num)

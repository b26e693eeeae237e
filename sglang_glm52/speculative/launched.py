"""Functions that the host calls as it launches Triton kernels: `kernel[grid](arguments)`."""

from __future__ import annotations

from collections.abc import Callable

import torch

from sglang_glm52.speculative.chain import require_chain
from sglang_glm52.speculative.slots import read_slots


class Launched:
    """A function behind a kernel's way of being called; the grid means nothing to it."""

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        return self.function


@Launched
def assign_draft_cache_locs_contiguous(
    req_pool_indices: torch.Tensor,
    req_to_token: torch.Tensor,
    seq_lens: torch.Tensor,
    out_cache_loc: torch.Tensor,
    pool_len: int,
    topk: int,
    speculative_num_steps: int,
) -> None:
    """Slots of a draft round's tokens: `speculative_num_steps` a request, from its committed length on."""
    require_chain(topk)
    out_cache_loc.copy_(read_slots(req_to_token, req_pool_indices, seq_lens, speculative_num_steps))


@Launched
def fill_bonus_tokens(
    accept_tokens: torch.Tensor, accept_lens: torch.Tensor, bonus_tokens: torch.Tensor, stride: int
) -> None:
    """The last token that each request gained; `accept_tokens` holds `stride` a request."""
    last = accept_lens.long().unsqueeze(1) - 1
    bonus_tokens.copy_(accept_tokens.view(-1, stride).gather(1, last).squeeze(1))

"""Take a draft step's token on the CPU engine without compiling a function for it.

The host assumes that torch.compile is at hand for the later steps of a round: picking the best of all branches is
compiled, which on the CPU takes a C++ compiler and seconds for each shape. With one draft a step there is nothing to
pick. The compiled function is replaced; other models reach it on the CPU engine only with speculation, which fails
there without this plugin. Read in 0.5.13.post1 (`speculative/spec_utils.py`, `_select_top_k_tokens_later`). Without the
hook the first round of two steps or more compiles, or fails where there is no compiler.
"""

from __future__ import annotations

import torch

from sglang_glm52.speculative.chain import require_chain


def take_only_token(
    i: int, topk_p: torch.Tensor, topk_index: torch.Tensor, hidden_states: torch.Tensor, scores: torch.Tensor, topk: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """REPLACE `_select_top_k_tokens_later`: input ids, hidden states, scores, and (scores, tokens, parents)."""
    require_chain(topk)
    scores = scores * topk_p
    parents = torch.full_like(topk_index, i)
    return topk_index.flatten(), hidden_states, scores, (scores.unsqueeze(2), topk_index, parents)

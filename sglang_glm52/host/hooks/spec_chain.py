"""Lay out the tokens to verify as the chain that they are.

The host assumes a tree of drafts with a mask that covers all keys. Where the CPU does not know the lengths, it makes
the mask as large as the longest context would need, a megabyte for each row of GLM-5.2's window, and fills it in every
round; sparse attention has no use for it. With one draft a step all but the tokens and their positions is the same in
every round. Other models, and GLM-5.2 with SGLANG_GLM52_SPEC_ROUNDS=host, get the host's tree. Read in 0.5.13.post1
(`speculative/eagle_utils.py`, `build_tree_kernel_efficient`; `speculative/eagle_worker_v2.py`,
`EagleDraftWorker.draft`). Without the hook rounds of many requests take gigabytes for a mask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from sglang.srt.server_args import get_global_server_args

from sglang_glm52.speculative.ahead import runs_ahead
from sglang_glm52.speculative.chain_links import lay_out_again


def build_chain(
    original: Callable[..., tuple[torch.Tensor, ...]],
    bonus_tokens: torch.Tensor,
    parent_list: torch.Tensor,
    top_scores_index: torch.Tensor,
    draft_tokens: torch.Tensor,
    seq_lens: torch.Tensor,
    seq_lens_sum: int,
    topk: int,
    *args: Any,
    **kwargs: Any,
) -> tuple[torch.Tensor | None, ...]:
    """AROUND `build_tree_kernel_efficient`: mask (none), positions, rows, children, siblings, tokens."""
    if topk > 1 or not runs_ahead(get_global_server_args()):
        given = bonus_tokens, parent_list, top_scores_index, draft_tokens, seq_lens, seq_lens_sum, topk
        return original(*given, *args, **kwargs)
    tokens, *tree = lay_out_again(bonus_tokens, draft_tokens, seq_lens)
    return (None, *tree, tokens)

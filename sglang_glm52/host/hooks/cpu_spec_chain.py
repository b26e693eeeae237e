"""Lay out the tokens to verify on the CPU engine.

The host assumes that its kernel package is there: the batch to verify, and the tree that the drafts form, are built by
a kernel whose name is not even imported on the CPU. With one draft a step the tree is a chain and needs no mask: a row
sees what comes before it. The function is replaced; other models reach it on the CPU engine only with speculation,
which fails there without this plugin. Read in 0.5.13.post1 (`speculative/eagle_utils.py`,
`build_tree_kernel_efficient`). Without the hook the first round fails with a NameError.
"""

from __future__ import annotations

from typing import Any

import torch

from sglang_glm52.speculative.chain import lay_out, require_chain


def build_chain(
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
    """REPLACE `build_tree_kernel_efficient`: mask (None), positions, rows, children, siblings, tokens."""
    require_chain(topk)
    tokens, *tree = lay_out(bonus_tokens, draft_tokens, seq_lens)
    return (None, *tree, tokens)

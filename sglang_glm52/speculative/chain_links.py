"""The layout of chains where each operation costs a launch: what is the same in every round is kept."""

from __future__ import annotations

from functools import lru_cache

import torch

from sglang_glm52.speculative.chain import lay_out


def lay_out_again(bonus: torch.Tensor, drafts: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """As `chain.lay_out`, int64 throughout; the tree's tensors are shared with other calls and must not be written."""
    row, *links = _constants(len(bonus), drafts.shape[1] + 1, bonus.device)
    tokens = torch.cat([bonus.unsqueeze(1), drafts], dim=1).flatten()
    return tokens, (lengths.unsqueeze(1) + row).flatten(), *links


@lru_cache(maxsize=1024)  # each number of requests that a server runs at once, for a few numbers of rows
def _constants(num_requests: int, num_rows: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    """Positions of the rows of a request without tokens, [D], and the links of the tree."""
    nothing = torch.zeros(num_requests, num_rows, dtype=torch.int64, device=device)
    _, positions, *links = lay_out(nothing[:, 0], nothing[:, 1:], nothing[:, 0])
    return positions[:num_rows], *links

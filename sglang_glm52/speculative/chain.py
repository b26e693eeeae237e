"""A chain of draft tokens: its layout in the verify batch, and how much of it the target agrees with.

The host knows trees of drafts; with one draft a step (`--speculative-eagle-topk 1`) a tree is a chain. Each request has
D rows in the verify batch: its newest token, the bonus of the round before, and D - 1 drafts. Row j says which token
follows drafts 1 to j.
"""

from __future__ import annotations

import torch

from sglang_glm52.errors import ConfigError


def require_chain(topk: int) -> None:
    """Raise ConfigError for a tree of drafts."""
    if topk != 1:
        raise ConfigError(
            f"--speculative-eagle-topk {topk}: the CPU engine verifies chains of drafts, not trees; "
            "use --speculative-eagle-topk 1"
        )


def lay_out(bonus: torch.Tensor, drafts: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The verify batch of chains.

    Args:
        bonus: [num_requests], each one's newest token. drafts: [num_requests, D - 1]. lengths: [num_requests], the
            number of tokens before the bonus.

    Returns:
        tokens and positions [num_requests * D]; and the tree as the host encodes it, each [num_requests, D] int64: a
        node's row in the batch, its first child and its next sibling within the request, -1 for none.
    """
    num_requests, num_rows = drafts.shape[0], drafts.shape[1] + 1
    row = torch.arange(num_rows, device=drafts.device)
    tokens = torch.cat([bonus.unsqueeze(1), drafts], dim=1).flatten()
    positions = (lengths.long().unsqueeze(1) + row).flatten()
    batch_row = torch.arange(num_requests * num_rows, device=drafts.device).view(num_requests, num_rows)
    child = torch.where(row < num_rows - 1, row + 1, -1).repeat(num_requests, 1)
    return tokens, positions, batch_row, child, torch.full_like(child, -1)


def accept(candidates: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Keep each chain as far as the target chose the same tokens, and the target's own token after that.

    Where `target` is drawn, row by row, from the target's distribution p, the outcome is distributed as without
    speculation: a draft x is kept with probability p(x), and if it is not, the token that replaces it was drawn from p
    knowing that it is not x. Rows after that are of no account.

    Args:
        candidates: [num_requests, D], the tokens of the verify batch. target: the same shape, the token that follows
            each row.

    Returns:
        tokens [num_requests * D] int32: what follows each kept row, 0 after the others; how many tokens each request
        gains [num_requests] int32, 1 to D; and the kept rows' places in `tokens` [num_requests, D] int32, padded with
        -1.
    """
    num_rows = candidates.shape[1]
    num_correct = (candidates[:, 1:] == target[:, :-1]).long().cumprod(dim=1).sum(dim=1)
    row = torch.arange(num_rows, device=candidates.device)
    is_kept = row <= num_correct.unsqueeze(1)
    places = torch.arange(candidates.numel(), device=candidates.device).view_as(candidates)
    tokens = torch.where(is_kept, target, 0).flatten()
    return tokens.int(), (num_correct + 1).int(), torch.where(is_kept, places, -1).int()

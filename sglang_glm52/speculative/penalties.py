"""Penalties on tokens that a request has put out, for the rows of a verify batch.

Row j follows the request's output and drafts 1 to j. It counts only if those drafts are kept, so they are part of the
output there, and each row is penalised as it would be without speculation.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Penalties:
    """One request's, as its sampling parameters give them."""

    frequency: float
    presence: float
    repetition: float
    min_new_tokens: int

    @property
    def are_any(self) -> bool:
        return self != NONE

    def apply(self, logits: torch.Tensor, output: list[int], drafts: torch.Tensor, stop_ids: Collection[int]) -> None:
        """Change the request's rows [D, vocab] in place.

        Args:
            output: tokens put out so far, the bonus included. drafts: [D - 1] int64. stop_ids: tokens that end it.
        """
        counts = torch.zeros_like(logits, dtype=torch.float32)
        counts[1:].scatter_(1, drafts.unsqueeze(1), 1.0)
        counts = counts.cumsum(dim=0) + torch.bincount(
            torch.tensor(output, dtype=torch.int64, device=logits.device), minlength=logits.shape[1]
        )
        logits -= self.frequency * counts + self.presence * (counts > 0)
        scaled = torch.where(logits < 0, logits * self.repetition, logits / self.repetition)
        logits.copy_(torch.where(counts > 0, scaled, logits))
        num_early_rows = max(self.min_new_tokens - len(output), 0)
        logits[:num_early_rows, list(stop_ids)] = float("-inf")


NONE = Penalties(frequency=0.0, presence=0.0, repetition=1.0, min_new_tokens=0)

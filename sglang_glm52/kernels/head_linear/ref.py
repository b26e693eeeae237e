"""The same in plain torch. Runs on a CPU."""

from __future__ import annotations

import torch


def head_linear(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """[num_tokens, heads, inputs] and [heads, outputs, inputs] -> [num_tokens, heads, outputs] bf16."""
    return torch.einsum("thi,hoi->tho", x.double(), weight.double()).bfloat16()

"""The router in plain torch, as the formulas stand. Runs on a CPU."""

from __future__ import annotations

import torch


def router_logits(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """[num_tokens, hidden] and [num_experts, hidden] -> [num_tokens, num_experts] float32, summed in float64."""
    return (x.double() @ weight.double().T).float()


def choose_experts(
    logits: torch.Tensor, bias: torch.Tensor, topk: int, *, renormalize: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """[num_tokens, num_experts] float32 -> weights [num_tokens, topk] float32, experts [num_tokens, topk] int32."""
    scores = logits.sigmoid()
    experts = (scores + bias).sort(dim=1, descending=True, stable=True).indices[:, :topk]
    weights = scores.gather(1, experts)
    if renormalize:
        weights = weights / weights.sum(dim=1, keepdim=True)
    return weights, experts.int()


def router(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, topk: int, *, renormalize: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both."""
    return choose_experts(router_logits(x, weight), bias, topk, renormalize=renormalize)

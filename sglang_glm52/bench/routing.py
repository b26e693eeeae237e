"""How far the router spreads tokens over the experts, measured on the router's own logits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class RouterWatch:
    """The experts that each MoE layer picked for the tokens of one forward pass."""

    def __init__(self, top_k: int) -> None:
        self.top_k = top_k
        self.picked: list[torch.Tensor] = []  # a layer each, [num_tokens, top_k] int64
        self.num_experts = 0

    def __call__(self, router: nn.Module, _args: tuple, logits: torch.Tensor) -> None:
        scores = logits.float().sigmoid() + router.e_score_correction_bias.float()
        self.num_experts = scores.shape[-1]
        self.picked.append(scores.topk(self.top_k, dim=-1).indices)  # plain top-k: GLM-5.2 has one expert group

    def experts_hit(self, batch: int) -> float:
        """Mean number of distinct experts that `batch` tokens pick together, over layers and tokens.

        ValueError if no router was called, or for fewer tokens than `batch`.
        """
        if not self.picked:
            raise ValueError("no router was called: the model has no module named *.mlp.gate that returns logits")
        return sum(self._layer_hits(experts, batch) for experts in self.picked) / len(self.picked)

    def _layer_hits(self, experts: torch.Tensor, batch: int) -> float:
        groups = experts.shape[0] // batch
        if groups == 0:
            raise ValueError(f"{experts.shape[0]} tokens were routed, expected at least one batch of {batch}")
        together = experts[: groups * batch].view(batch, groups, -1).transpose(0, 1).flatten(1)
        hit = torch.zeros(groups, self.num_experts, device=experts.device).scatter_(1, together, 1.0)
        return hit.sum(1).mean().item()


@contextmanager
def watch_routers(model: nn.Module, top_k: int) -> Iterator[RouterWatch]:
    """Record what each `*.mlp.gate` picks while the context is open (eager passes only)."""
    watch = RouterWatch(top_k)
    routers = [module for name, module in model.named_modules() if name.endswith(".mlp.gate")]
    handles = [router.register_forward_hook(watch) for router in routers]
    try:
        yield watch
    finally:
        for handle in handles:
            handle.remove()

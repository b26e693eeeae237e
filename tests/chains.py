"""Chains of calls on a GPU, each of which reads what the one before it wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

TURNS = 20


def require_order(calls: Sequence[Callable[[torch.Tensor], torch.Tensor]], starts: Sequence[torch.Tensor]) -> None:
    """The chain gives, alone and in a CUDA graph, what it gives with the device idle between its calls.

    Args:
        calls: each for the result of the one before.
        starts: arguments of the first, of one shape.
    """

    def chain(x: torch.Tensor, *, waits: bool) -> torch.Tensor:
        for call in calls:
            x = call(x)
            if waits:
                torch.cuda.synchronize()
        return x

    want = [chain(x, waits=True) for x in starts]
    assert all(torch.isfinite(each).all() and each.any() for each in want)
    for _ in range(TURNS):
        assert all(torch.equal(chain(x, waits=False), each) for x, each in zip(starts, want, strict=True))
    given, graph = torch.zeros_like(starts[0]), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = chain(given, waits=False)
    for x, each in zip(starts, want, strict=True):
        given.copy_(x)
        graph.replay()
        assert torch.equal(out, each)

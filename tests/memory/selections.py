"""What a selection of the best positions must be, and scores that are hard to select from."""

from __future__ import annotations

from collections.abc import Callable

import torch

SGL_KERNEL_CANDIDATES = 4096  # scores of one bin that sgl_kernel's top-k keeps; the others are dropped unseen


def _normal(shape: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    return torch.randn(shape, generator=generator, device=generator.device)


def _uniform(shape: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    return torch.rand(shape, generator=generator, device=generator.device)


def _half_minus_infinity(shape: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    scores = _normal(shape, generator)
    scores[:, 1::2] = float("-inf")
    return scores


def _equal_at_the_threshold(shape: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """A thousand of each row stand out, and a third of it shares the next value."""
    scores = _uniform(shape, generator)
    return torch.where(scores < 1 / 3, scores, 1.0) + (scores > 1 - 1000 / shape[1])


SCORES: dict[str, Callable[[tuple[int, int], torch.Generator], torch.Tensor]] = {
    "normal": _normal,
    "negative": lambda shape, generator: -_uniform(shape, generator) - 1e-3,
    "all equal": lambda shape, generator: torch.full(shape, 0.625, device=generator.device),
    "all zero": lambda shape, generator: torch.zeros(shape, device=generator.device),
    "equal at the threshold": _equal_at_the_threshold,
    "eight values": lambda shape, generator: _normal(shape, generator).mul(2).round().clamp(-4, 3),
    "half minus infinity": _half_minus_infinity,
    "sums of 32 heads": lambda shape, generator: 30.0 + 3.0 * _normal(shape, generator),
    "within a quarter": lambda shape, generator: 1.0 + 0.2 * _uniform(shape, generator),
}


def wrong_rows(
    positions: torch.Tensor, scores: torch.Tensor, lengths: torch.Tensor, topk: int, starts: torch.Tensor | None = None
) -> dict[int, str]:
    """Rows whose selection is not right, and why.

    Right are min(length, topk) distinct positions below the row's length, then -1, whose scores are the best `topk` as
    a multiset: of equal scores any may be taken.

    Args:
        positions: [rows, topk] within each row's own part of the scores.
        scores: [rows, columns] float32; row r's own are [starts[r], starts[r] + lengths[r]), or from 0 on.
    """
    problems = {}
    for row, length in enumerate(lengths.tolist()):
        start = 0 if starts is None else int(starts[row])
        problem = _problem(positions[row], scores[row, start : start + length], topk)
        if problem:
            problems[row] = problem
    return problems


def _problem(positions: torch.Tensor, scores: torch.Tensor, topk: int) -> str:
    count = min(len(scores), topk)
    chosen = positions[:count].long()
    if (positions[count:] != -1).any():
        return f"{int((positions[count:] != -1).sum())} entries beyond the {count} that there are"
    if count == 0:
        return ""
    if chosen.min() < 0 or chosen.max() >= len(scores):
        return f"positions {int(chosen.min())} to {int(chosen.max())} of {len(scores)}"
    if len(chosen.unique()) != count:
        return f"{count - len(chosen.unique())} positions twice"
    got, want = scores[chosen].sort().values, scores.topk(count).values.flip(0)
    if torch.equal(got, want):
        return ""
    return f"{int((got < want[0]).sum())} of {count} are below the {count}th best, {want[0]}; the worst is {got[0]}"


def threshold_bin_sizes(scores: torch.Tensor, lengths: torch.Tensor, topk: int) -> torch.Tensor:
    """[rows] how many scores share the bin of the topk-th best: the upper eight bits of its value in half precision."""
    sizes = []
    for row, length in zip(scores, lengths.tolist(), strict=True):
        if length <= topk:
            sizes.append(0)
            continue
        bits = row[:length].half().view(torch.int16).int() & 0xFFFF
        bins = torch.where(bits >= 0x8000, 0xFFFF - bits, bits + 0x8000) >> 8
        sizes.append(int((bins == bins.sort(descending=True).values[topk - 1]).sum()))
    return torch.tensor(sizes)

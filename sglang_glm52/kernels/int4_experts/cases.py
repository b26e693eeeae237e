"""Shapes, routings and made-up tensors that the tests and the bench share."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sglang_glm52.formats.int4_group import GROUP
from sglang_glm52.kernels.int4_experts.weights import ExpertWeights, StaticScales

FACTOR = 2.5  # GLM-5.2's routed scaling factor
POWER_LAW = 1.01  # the share of the i-th most popular expert falls as (i + 1) ** -POWER_LAW
ROUTINGS = ("uniform", "power-law", "one-expert", "no-expert")


@dataclass(frozen=True, slots=True)
class Case:
    """One call of the op. `num_experts` are those on this rank, the first of `total_experts`."""

    num_tokens: int
    hidden: int
    inner: int
    num_experts: int
    topk: int
    why: str
    routing: str = "uniform"
    total_experts: int | None = None  # None: all experts are here
    is_static: bool = False
    timed: bool = False

    def __str__(self) -> str:
        parts = [f"m{self.num_tokens}-h{self.hidden}-i{self.inner}-e{self.num_experts}-top{self.topk}"]
        parts += [self.routing] if self.routing != "uniform" else []
        parts += [f"of{self.total_experts}"] if self.total_experts else []
        return "-".join([*parts, "static"] if self.is_static else parts)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Arguments of one call beside the weights."""

    x: torch.Tensor  # [num_tokens, hidden] bf16
    topk_weights: torch.Tensor  # [num_tokens, topk] float32, a row sums to 1
    topk_ids: torch.Tensor  # [num_tokens, topk] int32
    factor: float
    static: StaticScales | None


def _small(num_tokens: int, why: str, **more: object) -> Case:
    return Case(num_tokens, 1024, 256, 16, 4, why, **more)


def _glm52(num_tokens: int, why: str, inner: int = 256, **more: object) -> Case:
    return Case(num_tokens, 6144, inner, 256, 8, why, **more)


SMALL = (
    Case(0, 256, 128, 8, 2, "no token"),
    Case(1, 256, 128, 8, 2, "one group of inner, two of hidden"),
    Case(3, 128, 128, 8, 2, "one group on both sides"),
    _small(1, "one token"),
    _small(7, "a prime"),
    _small(64, "16 rows an expert"),
    _small(130, "no multiple of a tile"),
    _small(33, "all slots on one expert's rows", routing="one-expert"),
    _small(5, "no token has an expert here", routing="no-expert"),
    _small(37, "popular and empty experts", routing="power-law"),
    _small(41, "half of the experts on another rank", total_experts=32),
    _small(19, "static scales, some values saturated", is_static=True),
    Case(9, 1024, 384, 16, 4, "an odd number of groups of inner"),
    Case(6, 640, 256, 8, 2, "an odd number of groups of hidden"),
)
LARGE = (
    _glm52(1, "GLM-5.2, TP 8", timed=True),
    _glm52(16, "GLM-5.2, TP 8", timed=True),
    _glm52(128, "GLM-5.2, TP 8", timed=True),
    _glm52(1024, "GLM-5.2, TP 8", timed=True),
    _glm52(4001, "GLM-5.2, TP 8, a prime chunk"),
    _glm52(64, "GLM-5.2, TP 16", inner=128),
    _glm52(32, "GLM-5.2, TP 4", inner=512),
    _glm52(8, "GLM-5.2, TP 2", inner=1024),
    Case(48, 6144, 2048, 32, 8, "GLM-5.2, EP 8", total_experts=256),
)
CASES = (*SMALL, *LARGE)


def make_weights(case: Case, *, seed: int, device: str | torch.device) -> ExpertWeights:
    """Random nibbles from all of [-8, 7], and scales of both signs; gate and up are about as large as x."""
    generator = torch.Generator(device).manual_seed(seed)
    experts, hidden, inner = case.num_experts, case.hidden, case.inner

    def packed(rows: int, cols: int) -> torch.Tensor:
        shape = (experts, rows, cols // 2)
        return torch.randint(-128, 128, shape, generator=generator, device=device, dtype=torch.int8)

    def scale(rows: int, cols: int) -> torch.Tensor:
        uniform = torch.rand((experts, cols // GROUP, rows), generator=generator, device=device) * 1.5 - 0.5
        return (torch.where(uniform < 0, uniform - 0.5, uniform + 0.5) * (cols**-0.5 / 4.6)).bfloat16()  # 4.6: of q

    return ExpertWeights(
        packed(2 * inner, hidden), scale(2 * inner, hidden), packed(hidden, inner), scale(hidden, inner)
    )


def make_inputs(case: Case, *, seed: int, device: str | torch.device) -> Inputs:
    """Normal activations; untimed, the first token is 1000 times larger: it must not cost the others precision."""
    generator = torch.Generator(device).manual_seed(seed)
    x = torch.randn(case.num_tokens, case.hidden, generator=generator, device=device)
    if not (case.is_static or case.timed):
        x[:1] *= 1000.0
    ids = make_ids(case, generator)
    weights = torch.rand(ids.shape, generator=generator, device=device) + 0.1
    # Beyond 2 lie 4 % of the normal values and 1 % of h, which saturate.
    static = StaticScales(*torch.tensor([[2.0], [2.0]], device=device).div(448.0)) if case.is_static else None
    return Inputs(x.bfloat16(), weights / weights.sum(1, keepdim=True), ids, FACTOR, static)


def make_ids(case: Case, generator: torch.Generator) -> torch.Tensor:
    """[num_tokens, topk] int32 on the generator's device: distinct experts a token, -1 for those of other ranks."""
    total = case.total_experts or case.num_experts
    shape, device = (case.num_tokens, total), generator.device
    if case.routing == "no-expert":
        return torch.full((case.num_tokens, case.topk), -1, dtype=torch.int32, device=device)
    if case.routing == "one-expert":  # every token has expert 1 here and the others elsewhere
        ids = torch.full((case.num_tokens, case.topk), -1, dtype=torch.int32, device=device)
        ids[:, case.topk // 2] = 1
        return ids
    if case.routing not in ROUTINGS:
        raise ValueError(f"routing {case.routing!r}: expected one of {', '.join(ROUTINGS)}")
    # The topk largest of log share + Gumbel noise are a draw without replacement by share (equal shares: uniform).
    noise = -torch.rand(shape, generator=generator, device=device).clamp_min(1e-20).log().neg().log()
    if case.routing == "power-law":
        popularity = torch.randperm(total, generator=generator, device=device)
        noise -= POWER_LAW * (popularity + 1.0).log()
    ids = noise.topk(case.topk, dim=1).indices if case.num_tokens else noise.new_zeros((0, case.topk))
    return torch.where(ids < case.num_experts, ids, -1).int()

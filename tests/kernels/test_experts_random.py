"""1,000 calls of random shape and routing: both paths of the int4 experts and their choice, against the reference.

A call follows from its seed alone, which a failure names: `draw(size, seed)`. Sizes are few, as each is compiled anew.

What may differ is derived in the tests of the two paths. How far that goes where few values make a row, the reference
says itself if its gate and up sums get random errors of the size that a path's have: 1e-6 for float32 sums in another
order, 4e-4 for the tensor cores' sums of FP8 products. That moved the worst of 6,000 rows by 2.0 % and 5.0 %, which
happened with one slot of 128 values a token, and the mean row of each size by at most 0.02 % and 0.8 %. On an H200
rows of the first six sizes differ by at most 0.5 % and 4.1 %, and on average by 0.002 % and 0.5 %.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import torch

from sglang_glm52.kernels.int4_experts import cases, int4_experts, ref
from sglang_glm52.kernels.int4_experts.cases import Case, Inputs, make_inputs, make_weights
from sglang_glm52.kernels.int4_experts.decode import int4_experts_decode
from sglang_glm52.kernels.int4_experts.grouped import int4_experts_grouped
from sglang_glm52.kernels.int4_experts.tuning import MAX_SLOTS

pytestmark = pytest.mark.gpu

ROUTING_SHARES = {"uniform": 3, "power-law": 2, "no-expert": 1, "repeats": 2, "one-expert": 2}
DRAWN_HERE = ("repeats", "one-expert")  # a token names an expert more than once; all that is here goes to one expert
OTHER_RANKS = (-1, -(2**31))  # any negative number is an expert of another rank


@dataclass(frozen=True, slots=True)
class Size:
    """What is compiled for, and how far random calls of it go."""

    hidden: int
    inner: int
    topk: int
    most_tokens: int
    most_experts: int
    num_calls: int
    why: str
    has_static: bool = False

    def __str__(self) -> str:
        return f"h{self.hidden}-i{self.inner}-top{self.topk}"


SIZES = (
    Size(128, 128, 1, 440, 256, 150, "one group on both sides, one slot a token", has_static=True),
    Size(640, 256, 2, 440, 64, 150, "an odd number of groups of hidden"),
    Size(1024, 384, 3, 440, 64, 150, "an odd number of groups of inner"),
    Size(1024, 256, 4, 2000, 256, 150, "every tiling", has_static=True),
    Size(6144, 512, 5, 440, 32, 100, "TP 4"),
    Size(6144, 1024, 6, 440, 16, 60, "TP 2"),
    Size(6144, 128, 7, 440, 64, 80, "TP 16"),
    Size(6144, 256, 8, 2000, 256, 120, "TP 8, every tiling", has_static=True),
    Size(6144, 2048, 8, 440, 8, 40, "TP 1"),
)
FIRST_SEEDS = dict(zip(SIZES, itertools.accumulate((size.num_calls for size in SIZES), initial=0), strict=False))


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of the norm of a row's difference over the norm of the row, see above."""

    worst: float
    mean: float


DECODE, GROUPED = Bounds(worst=0.02, mean=0.0002), Bounds(worst=0.06, mean=0.008)


@dataclass(slots=True)
class Tally:
    """How far the rows of one path were off, in all calls of a size."""

    name: str
    bounds: Bounds
    rows: list[torch.Tensor] = field(default_factory=list)

    def add(self, got: torch.Tensor, want: torch.Tensor) -> str:
        """-> what is wrong with a result, or nothing."""
        if (got.shape, got.dtype) != (want.shape, want.dtype):
            return f"{self.name} is {got.dtype} {tuple(got.shape)}"
        got, want = got.float(), want.float()
        size = want.norm(dim=1)
        difference = torch.where(size > 0, (got - want).norm(dim=1) / size, got.abs().amax(dim=1))
        self.rows.append(difference[size > 0])
        wrong = ~(difference <= torch.where(size > 0, self.bounds.worst, 0.0))  # NaN is wrong
        if not wrong.any():
            return ""
        rows = wrong.nonzero()[:, 0].tolist()
        return f"{self.name} differs in {len(rows)} rows, {rows[:4]} ...: by {difference[rows[:4]].tolist()}"

    def mean(self) -> float:
        return torch.cat(self.rows).mean().item()

    def __str__(self) -> str:
        rows = torch.cat(self.rows)
        return f"{self.name}: {len(rows)} rows differ by {rows.mean():.1e}, at most {rows.max():.1e}"


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_random_calls_equal_the_reference(size: Size) -> None:
    start = time.perf_counter()
    decode, grouped = Tally("decode", DECODE), Tally("grouped", GROUPED)
    problems = []
    for seed in range(FIRST_SEEDS[size], FIRST_SEEDS[size] + size.num_calls):
        case, arguments = draw(size, seed)
        found = [problem for problem in check(arguments, decode, grouped) if problem]
        problems += [f"seed {seed}, {case}: {problem}" for problem in found]
    print(f"{size}: {size.num_calls} calls, {time.perf_counter() - start:.1f} s; {decode}; {grouped}")
    assert not problems, "\n".join([f"{len(problems)} problems", *problems[:20]])
    for tally in (decode, grouped):
        assert tally.mean() < tally.bounds.mean, str(tally)


def check(arguments: dict[str, object], decode: Tally, grouped: Tally) -> Iterator[str]:
    """Call both paths, as far as they take the call, and their choice; then the reference, whose memory comes after."""
    by_path = {grouped.name: call(int4_experts_grouped, arguments)}
    if arguments["topk_ids"].numel() <= MAX_SLOTS:
        by_path[decode.name] = call(int4_experts_decode, arguments)
    chosen = call(int4_experts, arguments)
    want = ref.int4_experts(**arguments)
    for tally in (decode, grouped):
        if tally.name in by_path:
            yield tally.add(by_path[tally.name], want)
    if not any(torch.equal(chosen, got) for got in by_path.values()):
        yield "the chosen path gives other bits than either"


def call(path: Callable[..., torch.Tensor], arguments: dict[str, object]) -> torch.Tensor:
    """With new memory full of NaN and large numbers, so that what is read before it is written shows."""
    with memory_of_nan():
        return path(**arguments)


@contextmanager
def memory_of_nan() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.utils.deterministic.fill_uninitialized_memory
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def draw(size: Size, seed: int) -> tuple[Case, dict[str, object]]:
    """A case, and the arguments of a call of it."""
    rng = random.Random(seed)
    num_experts = log_uniform(rng, size.most_experts)
    [routing] = rng.choices(list(ROUTING_SHARES), list(ROUTING_SHARES.values()))
    case = Case(
        log_uniform(rng, size.most_tokens) if rng.random() < 0.98 else 0,
        size.hidden,
        size.inner,
        num_experts,
        size.topk,
        size.why,
        routing=routing,
        total_experts=max(size.topk, num_experts * rng.choice((1, 1, 2, 8))),
        is_static=size.has_static and rng.random() < 0.3,
    )
    weights = make_weights(case, seed=2 * seed, device="cuda")
    return case, {"weights": weights} | as_arguments(make_call(case, 2 * seed + 1, rng))


def as_arguments(inputs: Inputs) -> dict[str, object]:
    return {part.name: getattr(inputs, part.name) for part in dataclasses.fields(inputs)}


def log_uniform(rng: random.Random, most: int) -> int:
    """1 .. most, small numbers more often: as often up to 10 as from 10 to 100."""
    return int((most + 1) ** rng.random())


def make_call(case: Case, seed: int, rng: random.Random) -> Inputs:
    """`make_inputs`, with more routings, and tokens and router weights of every size, zero among them."""
    generator = torch.Generator("cuda").manual_seed(seed)
    is_drawn_here = case.routing in DRAWN_HERE
    inputs = make_inputs(
        dataclasses.replace(case, routing="uniform") if is_drawn_here else case, seed=seed, device="cuda"
    )
    ids = inputs.topk_ids
    if is_drawn_here:
        named = torch.randint(case.total_experts, ids.shape, generator=generator, device="cuda", dtype=torch.int32)
        one = torch.full_like(named, rng.randrange(case.num_experts))
        ids = torch.where(named < case.num_experts, one if case.routing == "one-expert" else named, -1)
    tokens = torch.rand(2, case.num_tokens, 1, generator=generator, device="cuda")
    x = inputs.x
    if not case.is_static:
        x = torch.where(tokens[0] < 0.05, 0.0, x * 10.0 ** (4 * tokens[1] - 2)).bfloat16()
    topk_weights = torch.where(inputs.topk_weights < 0.5 / case.topk, 0.0, inputs.topk_weights)
    return Inputs(
        x.contiguous(),
        topk_weights,
        torch.where(ids < 0, rng.choice(OTHER_RANKS), ids),
        rng.choice((1.0, cases.FACTOR, rng.uniform(0.1, 4.0))),
        inputs.static,
    )

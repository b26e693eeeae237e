"""`sparse_mla` on a GPU.

The reference computes in float64 from the very bytes of the cache. Rounding a result to bf16 moves it by 2^-9 of itself
at most, a row by 2.3e-3 of its norm at most. Weights with 11 bits move a row of n equal ones by 2^-12 / sqrt(n), one
that cancels by more. A wrong scale, key or head is off by a tenth or more.
"""

from __future__ import annotations

import pytest
import torch
from chains import require_order

from sglang_glm52.kernels.sparse_mla import ref, sparse_mla
from sglang_glm52.kernels.sparse_mla.cases import CASES, SCALE, Case, Inputs, make_inputs
from sglang_glm52.kernels.sparse_mla.fused import run
from sglang_glm52.kernels.sparse_mla.tuning import Tuning

pytestmark = pytest.mark.gpu

ROUNDED = 3e-3  # norm of a row's difference over the norm of the row
TUNINGS = [
    Tuning(warps=4, stages=2, splits=1, resident=2),
    Tuning(warps=4, stages=7, splits=2, resident=1),
    Tuning(warps=8, stages=3, splits=1, resident=1),
    Tuning(warps=8, stages=2, splits=4, resident=1),
    Tuning(warps=4, stages=4, splits=8, resident=2),
    Tuning(warps=8, stages=1, splits=16, resident=1),
    Tuning(warps=4, stages=2, splits=16, resident=2),
]
DECODE, VERIFY, PREFILL = Case(1, 5000, "decode"), Case(16, 5000, "verify"), Case(300, 5000, "prefill")


def attend(inputs: Inputs) -> torch.Tensor:
    return sparse_mla(*inputs.tensors(), SCALE)


def expected(inputs: Inputs) -> torch.Tensor:
    return ref.sparse_mla_in(torch.float64, *inputs.tensors(), SCALE)


def worst_row(got: torch.Tensor, want: torch.Tensor) -> float:
    """Rows of zeros must be zeros."""
    assert (got.shape, got.dtype) == (want.shape, torch.bfloat16)
    assert torch.isfinite(got).all()
    norm = want.norm(dim=2)
    assert not got[norm == 0].any()
    return ((got.double() - want).norm(dim=2) / norm.where(norm > 0, 1.0)).max().item()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_reference(case: Case) -> None:
    inputs = make_inputs(case, seed=1, device="cuda")
    got = attend(inputs)
    if case.num_tokens == 0:
        assert got.shape == (0, case.heads, 512)
        return
    shown = slice(0, 512)  # the reference takes 4 ms a token
    some = Inputs(inputs.q_nope[shown], inputs.q_rope[shown], inputs.cache, inputs.slots[shown])
    assert worst_row(got[shown], expected(some)) < ROUNDED
    if case.num_tokens > 512:  # the others, as a call of few blocks has them
        last = slice(-40, None)
        some = Inputs(inputs.q_nope[last], inputs.q_rope[last], inputs.cache, inputs.slots[last])
        assert worst_row(got[last], expected(some)) < ROUNDED


@pytest.mark.parametrize("heads", [4, 8, 16])
@pytest.mark.parametrize("tuning", TUNINGS, ids=lambda each: "-".join(map(str, each.macros().values())))
def test_every_way_to_share_the_work_out_equals_the_reference(tuning: Tuning, heads: int) -> None:
    for selection in ("full", "ragged", "holes"):
        inputs = make_inputs(Case(7, 3001, "", heads=heads, selection=selection, topk=1024), seed=2, device="cuda")
        assert worst_row(run(tuning, *inputs.tensors(), SCALE), expected(inputs)) < ROUNDED, selection


@pytest.mark.parametrize("spread", [0.0, 12.0, 30.0])
def test_scales_may_differ_by_any_factor(spread: float) -> None:
    """Up to 2^-100 of each other: fp16 weights of one common scale would lose all but the largest."""
    inputs = make_inputs(Case(40, 4000, ""), seed=3, device="cuda", spread=spread)
    assert worst_row(attend(inputs), expected(inputs)) < ROUNDED


def test_few_large_values_among_many_small_ones_keep_the_small_ones() -> None:
    """A slot whose latents are a million times larger, but whose weight is next to nothing, hides no other."""
    inputs = make_inputs(Case(8, 4000, ""), seed=4, device="cuda", spread=0.0)
    inputs.q_nope.zero_()
    inputs.q_rope.fill_(1.0)
    inputs.slots[:, 100] = 5
    large = 1e6 * ref.dequantize(inputs.cache[5:6].view(torch.uint8), torch.float32)[:, :512]
    rope = torch.full((1, 64), -8.0, device="cuda")  # a score of -32
    inputs.cache[5:6] = ref.quantize(large, rope).view(torch.float8_e4m3fn)
    assert worst_row(attend(inputs), expected(inputs)) < ROUNDED


@pytest.mark.parametrize("case", [DECODE, VERIFY, PREFILL], ids=str)
def test_is_nearer_than_a_bf16_cache(case: Case) -> None:
    """The host's kernels read the cache as bf16, and round weights to bf16; here only the first is counted."""
    inputs = make_inputs(case, seed=5, device="cuda")
    want = expected(inputs)
    values = ref.dequantize(inputs.cache.view(torch.uint8), torch.float32).bfloat16().double()
    query = torch.cat([inputs.q_nope, inputs.q_rope], dim=2).double()
    keys = values[inputs.slots.long()]
    weights = (torch.einsum("thd,tkd->thk", query, keys) * SCALE).softmax(dim=2)
    of_bf16 = torch.einsum("thk,tkd->thd", weights, keys[..., :512]).bfloat16()
    ours, theirs = ((each.double() - want).norm() / want.norm() for each in (attend(inputs), of_bf16))
    assert ours < theirs


def test_one_slot_returns_its_latents() -> None:
    """A weight of one: what comes out is the slot's latents, rounded to bf16."""
    inputs = make_inputs(Case(300, 300, ""), seed=6, device="cuda")
    inputs.slots.fill_(-1)
    places = torch.arange(300, device="cuda")
    inputs.slots[places, places * 37 % 2048] = places.int()
    want = ref.dequantize(inputs.cache.view(torch.uint8), torch.float32)[:, :512]
    for first, last in ((0, 1), (1, 17), (17, 67), (67, 300)):
        rows = slice(first, last)
        got = sparse_mla(inputs.q_nope[rows], inputs.q_rope[rows], inputs.cache, inputs.slots[rows], SCALE)
        assert ((got.float() - want[rows, None]).abs() <= want[rows, None].abs() * 2**-8).all(), rows


def test_slots_that_nobody_selected_may_hold_anything() -> None:
    inputs = make_inputs(Case(70, 200_000, "", selection="holes"), seed=7, device="cuda")
    valid = inputs.slots[(inputs.slots >= 0) & (inputs.slots < 200_000)].long()
    others = torch.ones(200_000, dtype=torch.bool, device="cuda").index_fill(0, valid, value=False)
    want = attend(inputs)
    inputs.cache.view(torch.uint8)[others] = 0xFF  # NaN throughout
    assert others.any()
    assert torch.equal(attend(inputs), want)


@pytest.mark.parametrize("case", [DECODE, VERIFY, PREFILL], ids=str)
def test_equal_arguments_give_equal_bits(case: Case) -> None:
    """Also where one call starts while the one before it, of other tokens, still runs."""
    both = [make_inputs(case, seed=seed, device="cuda") for seed in (8, 9)]
    first = []
    for inputs in both:
        first.append(attend(inputs))
        torch.cuda.synchronize()
    again = [[attend(inputs) for inputs in both] for _ in range(30)]
    assert all(torch.equal(a, b) for results in again for a, b in zip(results, first, strict=True))


@pytest.mark.parametrize("case", [DECODE, VERIFY, PREFILL], ids=str)
def test_a_call_waits_for_what_writes_its_inputs(case: Case) -> None:
    """Each query is the last call's result."""
    inputs = make_inputs(case, seed=10, device="cuda")
    calls = [lambda q: sparse_mla(q, inputs.q_rope, inputs.cache, inputs.slots, SCALE)] * 6
    require_order(calls, [inputs.q_nope.contiguous()])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"q_nope": lambda q: q.float()}, "q_nope is torch.float32"),
        ({"q_nope": lambda q: q[:, :3]}, r"q_rope is \(3, 8, 64\); expected \(3, 3, 64\)"),
        ({"q_nope": lambda q: q[:, :5], "q_rope": lambda q: q[:, :5]}, "q_nope has 5 heads"),
        ({"q_nope": lambda q: q.transpose(1, 2).contiguous().transpose(1, 2)}, "q_nope has strides"),
        ({"q_nope": lambda q: q.cpu()}, "expected a GPU"),
        ({"q_rope": lambda q: q[..., :32]}, "q_rope is torch.bfloat16"),
        ({"cache": lambda c: c[:, :640]}, "cache is torch.float8_e4m3fn"),
        ({"cache": lambda c: c[::2]}, "cache has strides"),
        ({"slots": lambda s: s.long()}, "slots is torch.int64"),
        ({"slots": lambda s: s[:, :100]}, "slots has 100 columns; expected a multiple of 128"),
        ({"slots": lambda s: s[:2]}, r"expected torch.int32 \[3, topk\]"),
        ({"slots": lambda s: s.cpu()}, "slots is on cpu"),
    ],
)
def test_other_arguments_are_refused(change: dict, words: str) -> None:
    inputs = make_inputs(Case(3, 200, "", topk=256), seed=11, device="cuda")
    given = {name: getattr(inputs, name) for name in ("q_nope", "q_rope", "cache", "slots")}
    given |= {name: make(given[name]) for name, make in change.items()}
    with pytest.raises(ValueError, match=words):
        sparse_mla(**given, scale=SCALE)

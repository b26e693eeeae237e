"""`fp8_linear` on a GPU.

The reference rounds to FP8 as the kernel does where each group's largest value is a power of two (`exact`), by which
every device divides alike. What differs then is float32 sums in another order, by about 1e-6 of a sum: that moves a
result in a thousand across the middle of two bf16 numbers, by 2^-8 of itself, and a row by 1e-4 of itself. Otherwise
the kernel's quotient may differ in the last bit, as the host's does, which moves values that lie in the middle of two
e4m3 numbers: one in some hundred, by 2^-3 to 2^-4 of itself. A wrong scale, weight or token differs by much more.
"""

from __future__ import annotations

from functools import partial

import pytest
import torch
from chains import require_order

from sglang_glm52.formats.fp8_block import dequantize_fp8_block
from sglang_glm52.kernels.fp8_linear import fp8_linear, ref
from sglang_glm52.kernels.fp8_linear.cases import CASES, Case, Inputs, make_inputs
from sglang_glm52.kernels.fp8_linear.fused import run
from sglang_glm52.kernels.fp8_linear.tuning import Tuning

pytestmark = pytest.mark.gpu

SAME_ROUNDING, OTHER_QUOTIENT = 1e-3, 2e-2  # norm of a row's difference over the norm of the row
RAGGED = (208, 640)  # 13 tiles of rows, 5 groups of inputs
TUNINGS = [
    Tuning(row_tiles=4, k_warps=4, units=2, splits=1),
    Tuning(row_tiles=1, k_warps=1, units=5, splits=1),
    Tuning(row_tiles=4, k_warps=1, units=2, splits=3),
    Tuning(row_tiles=3, k_warps=3, units=1, splits=2),
    Tuning(row_tiles=5, k_warps=2, units=1, splits=4),
    Tuning(row_tiles=8, k_warps=1, units=1, splits=8),
]
QKV_A, Q_B = Case(1, 2624, 6144, "GLM-5.2, TP 8"), Case(7, 2048, 2048, "GLM-5.2, TP 8")


def linear(inputs: Inputs) -> torch.Tensor:
    return fp8_linear(inputs.x, inputs.weight, inputs.weight_scale)


def worst_row(got: torch.Tensor, want: torch.Tensor) -> float:
    assert (got.shape, got.dtype) == (want.shape, torch.bfloat16)
    got, want = got.float(), want.float()
    assert torch.isfinite(got).all()
    return ((got - want).norm(dim=1) / want.norm(dim=1)).max().item()


def expected(inputs: Inputs) -> torch.Tensor:
    """The reference's result, with torch's default for float32 products, which is no TF32."""
    return ref.fp8_linear(inputs.x, inputs.weight, inputs.weight_scale)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_reference(case: Case) -> None:
    inputs = make_inputs(case, seed=1, device="cuda", exact=True)
    got = linear(inputs)
    if case.num_tokens == 0:
        assert got.shape == (0, case.outputs)
        return
    assert worst_row(got, expected(inputs)) < SAME_ROUNDING


@pytest.mark.parametrize("num_tokens", [1, 8, 11, 16])
@pytest.mark.parametrize("tuning", TUNINGS, ids=lambda each: "-".join(map(str, each.macros().values())))
def test_every_way_to_share_the_work_out_equals_the_reference(tuning: Tuning, num_tokens: int) -> None:
    inputs = make_inputs(Case(num_tokens, *RAGGED, ""), seed=2, device="cuda", exact=True)
    got = run(tuning, inputs.x, inputs.weight, inputs.weight_scale)
    assert worst_row(got, expected(inputs)) < SAME_ROUNDING


@pytest.mark.parametrize("case", [QKV_A, Q_B], ids=str)
def test_any_values_are_near_the_reference(case: Case) -> None:
    inputs = make_inputs(case, seed=3, device="cuda")
    assert worst_row(linear(inputs), expected(inputs)) < OTHER_QUOTIENT


@pytest.mark.parametrize("case", [QKV_A, Q_B], ids=str)
def test_any_values_are_rounded_as_the_host_does(case: Case) -> None:
    sgl_kernel = pytest.importorskip("sgl_kernel")
    inputs = make_inputs(case, seed=3, device="cuda")
    q = torch.empty_like(inputs.x, dtype=torch.float8_e4m3fn)
    scale = inputs.x.new_empty(case.num_tokens, case.inputs // 128, dtype=torch.float32)
    sgl_kernel.sgl_per_token_group_quant_8bit(inputs.x, q, scale, 128, 1e-10, -448.0, 448.0, enable_v2=True)
    want = ref.product(q.float(), scale, inputs.weight, inputs.weight_scale)
    assert worst_row(linear(inputs), want) < SAME_ROUNDING


def test_one_hot_tokens_return_the_weights() -> None:
    """With 448 as a group's largest value and powers of two as scales every step is exact, so are the bits."""
    outputs, inputs = RAGGED
    made = make_inputs(Case(0, outputs, inputs, ""), seed=4, device="cuda")
    scale = 2.0 ** made.weight_scale.log2().round()
    columns = dequantize_fp8_block(made.weight, scale).T.mul(448.0).bfloat16()
    hot = torch.eye(inputs, device="cuda").mul(448.0).bfloat16()
    for first in range(0, inputs, 16):
        got = fp8_linear(hot[first : first + 16], made.weight, scale)
        assert torch.equal(got, columns[first : first + 16]), first


@pytest.mark.parametrize("case", [QKV_A, Q_B, Case(16, 512, 6144, "")], ids=str)
def test_equal_arguments_give_equal_bits(case: Case) -> None:
    """Also where one call starts while the one before it, of other tokens, still runs."""
    both = [make_inputs(case, seed=seed, device="cuda") for seed in (5, 6)]
    first = []
    for inputs in both:
        first.append(linear(inputs))
        torch.cuda.synchronize()
    again = [[linear(inputs) for inputs in both] for _ in range(50)]
    assert all(torch.equal(a, b) for results in again for a, b in zip(results, first, strict=True))


def test_a_call_waits_for_the_one_that_writes_its_inputs() -> None:
    layers = [make_inputs(Q_B, seed=seed, device="cuda") for seed in range(8)]
    calls = [partial(fp8_linear, weight=layer.weight, weight_scale=layer.weight_scale) for layer in layers]
    require_order(calls, [layer.x for layer in layers])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": lambda x: x.float()}, "x is torch.float32"),
        ({"x": lambda x: x[:, :512]}, r"expected torch.bfloat16 \[num_tokens, 640\]"),
        ({"x": lambda x: x.repeat(6, 1)}, "x has 18 tokens; expected at most 16"),
        ({"x": lambda x: x.T.contiguous().T}, "x has strides"),
        ({"x": lambda x: x.cpu()}, "expected a GPU"),
        ({"weight": lambda w: w[:200]}, "weight is 200 x 640; expected multiples of 16 and 128"),
        ({"weight": lambda w: w.view(torch.int8)}, "weight is torch.int8"),
        ({"weight_scale": lambda s: s[:1]}, "weight_scale is torch.float32"),
        ({"weight_scale": lambda s: s.cpu()}, "weight_scale is on cpu"),
    ],
)
def test_other_arguments_are_refused(change: dict, words: str) -> None:
    inputs = make_inputs(Case(3, *RAGGED, ""), seed=7, device="cuda")
    given = {name: getattr(inputs, name) for name in ("x", "weight", "weight_scale")}
    given |= {name: make(given[name]) for name, make in change.items()}
    with pytest.raises(ValueError, match=words):
        fp8_linear(**given)

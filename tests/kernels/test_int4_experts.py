"""The operation without a GPU: its reference, what it refuses, and which path takes how many tokens."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from sglang_glm52.formats.int4_group import dequantize_int4_group, quantize_int4_group
from sglang_glm52.kernels.int4_experts import cases, int4_experts, ref
from sglang_glm52.kernels.int4_experts.bench import Limits, Work, work_of
from sglang_glm52.kernels.int4_experts.cases import Case, Inputs, make_ids, make_inputs, make_weights
from sglang_glm52.kernels.int4_experts.decode import MAX_SLOTS
from sglang_glm52.kernels.int4_experts.kernel import choose_path
from sglang_glm52.kernels.int4_experts.table import MEASURED, UNMEASURED, first_grouped
from sglang_glm52.kernels.int4_experts.weights import ExpertWeights, StaticScales

HIDDEN, INNER = 256, 128
CASE = Case(5, HIDDEN, INNER, 4, 2, "small")


def run_ref(weights: ExpertWeights, inputs: Inputs) -> torch.Tensor:
    return ref.int4_experts(inputs.x, weights=weights, **arguments(inputs))


def arguments(inputs: Inputs) -> dict[str, object]:
    return {f.name: getattr(inputs, f.name) for f in dataclasses.fields(inputs) if f.name != "x"}


def rounded_rows(x: torch.Tensor) -> torch.Tensor:
    q, scale = ref.quantize_rows(x)
    return q * scale


def test_each_row_is_rounded_with_its_own_scale():
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1e-6], [1.0], [1e6], [0.0]])
    rounded = rounded_rows(x)
    error = (rounded - x).abs()
    largest = x.abs().amax(-1, keepdim=True)
    assert (error <= x.abs() * 2**-4 + largest * 2**-9 / 448).all() and (error[:3].amax(-1) > 0).all()
    torch.testing.assert_close(rounded.abs().amax(-1, keepdim=True), largest)  # 448 steps of its scale
    assert torch.equal(rounded[3], x[3])


def test_a_static_scale_is_used_for_every_row_and_saturates():
    q, scale = ref.quantize_rows(torch.tensor([[1.0, -3.0], [1e9, -1e9], [0.0, 17.0]]), torch.tensor([0.5]))
    assert q.tolist() == [[2.0, -6.0], [448.0, -448.0], [0.0, 32.0]]  # 34 lies between 32 and 36, and ties go to even
    assert scale.tolist() == [[0.5]] * 3


def test_experts_are_summed_by_weight_and_missing_ones_left_out():
    generator = torch.Generator().manual_seed(1)
    w13 = [quantize_int4_group(torch.randn(2 * INNER, HIDDEN, generator=generator) * HIDDEN**-0.5) for _ in range(3)]
    w2 = [quantize_int4_group(torch.randn(HIDDEN, INNER, generator=generator) * INNER**-0.5) for _ in range(3)]
    x, ids = torch.randn(2, HIDDEN, generator=generator).bfloat16(), torch.tensor([[2, 0], [1, -1]]).int()
    topk_weights = torch.tensor([[0.25, 0.75], [0.5, 0.5]])

    def expert(i: int, row: torch.Tensor) -> torch.Tensor:
        gate, up = (dequantize_int4_group(*w13[i]) @ rounded_rows(row[None])[0]).chunk(2)
        inner = rounded_rows((gate * gate.sigmoid() * up)[None].bfloat16())[0]
        return dequantize_int4_group(*w2[i]) @ inner

    want = torch.stack([0.25 * expert(2, x[0]) + 0.75 * expert(0, x[0]), 0.5 * expert(1, x[1])])
    weights = ExpertWeights(
        torch.stack([each.packed for each in w13]),
        torch.stack([each.scale.T.contiguous() for each in w13]),
        torch.stack([each.packed for each in w2]),
        torch.stack([each.scale.T.contiguous() for each in w2]),
    )
    got = ref.int4_experts(x, weights=weights, topk_weights=topk_weights, topk_ids=ids, factor=2.0)
    torch.testing.assert_close(got.float(), 2.0 * want, rtol=2**-8, atol=1e-3)


@pytest.mark.parametrize("case", cases.SMALL, ids=str)
def test_cases_hold_what_they_promise(case):
    weights, inputs = make_weights(case, seed=1, device="cpu"), make_inputs(case, seed=2, device="cpu")
    out = run_ref(weights, inputs)
    has_expert = (inputs.topk_ids >= 0).any(1)
    assert out.shape == (case.num_tokens, case.hidden) and out.dtype == torch.bfloat16 and out.isfinite().all()
    assert torch.equal(out.float().norm(dim=1) > 0, has_expert)
    assert (weights.scale13 < 0).any() and (weights.w13 & 0xF == 8).any()  # a negative scale, a nibble of -8
    assert (inputs.static is None) == (not case.is_static)
    if case.is_static:
        assert ((inputs.x / inputs.static.x).abs() > 448).float().mean() > 0.01


def test_a_token_has_distinct_experts_and_those_of_other_ranks_are_negative():
    case = Case(500, HIDDEN, INNER, 8, 4, "", total_experts=32)
    ids = make_ids(case, torch.Generator().manual_seed(1))
    here = ids[ids >= 0]
    assert here.max() == 7 and here.numel() / ids.numel() == pytest.approx(8 / 32, abs=0.05)
    for row in ids.tolist():
        found = [i for i in row if i >= 0]
        assert len(found) == len(set(found))


def test_a_power_law_has_popular_experts():
    for routing, expected in (("uniform", 1.15), ("power-law", 7.1)):
        case = Case(2000, HIDDEN, INNER, 64, 8, "", routing=routing)
        counts = make_ids(case, torch.Generator().manual_seed(1)).flatten().bincount(minlength=64)
        assert counts.max() / counts.float().mean() == pytest.approx(expected, rel=0.1), routing


def test_zero_tokens_need_no_gpu():
    inputs = make_inputs(dataclasses.replace(CASE, num_tokens=0), seed=1, device="cpu")
    out = int4_experts(inputs.x, weights=make_weights(CASE, seed=1, device="cpu"), **arguments(inputs))
    assert out.shape == (0, HIDDEN) and out.dtype == torch.bfloat16


REFUSED = {
    "x is torch.float32": lambda i: {"x": i.x.float()},
    "x is torch.bfloat16 \\(5, 128\\)": lambda i: {"x": i.x[:, :128].contiguous()},
    "x has strides": lambda i: {"x": i.x.repeat(1, 2)[:, ::2]},
    "topk_weights is torch.bfloat16": lambda i: {"topk_weights": i.topk_weights.bfloat16()},
    "topk_weights has strides": lambda i: {"topk_weights": i.topk_weights.T.contiguous().T},
    "topk_ids is torch.int64": lambda i: {"topk_ids": i.topk_ids.long()},
    "topk_ids has shape \\(5,\\)": lambda i: {"topk_ids": i.topk_ids[:, 0]},
    "topk_weights is torch.float32 \\(4, 2\\)": lambda i: {"topk_weights": i.topk_weights[:4]},
    "x is on meta": lambda i: {"x": i.x.to("meta")},
    "static.h is on meta": lambda i: {"static": StaticScales(torch.ones(1), torch.ones(1, device="meta"))},
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_wrong_argument_is_refused_by_name(message):
    inputs = make_inputs(CASE, seed=1, device="cpu")
    call = {"x": inputs.x, **arguments(inputs), **REFUSED[message](inputs)}
    with pytest.raises(ValueError, match=f"^{message}"):
        int4_experts(call.pop("x"), weights=make_weights(CASE, seed=1, device="cpu"), **call)


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("w13", lambda t: t[:, 1:], r"w13 is torch.int8 \(4, 255, 128\)"),
        ("scale13", lambda t: t.float(), "scale13 is torch.float32"),
        ("scale13", lambda t: t.transpose(1, 2).contiguous(), r"expected torch.bfloat16 \(4, 2, 256\)"),
        ("w2", lambda t: t[..., :32], r"w2 has shape \(4, 256, 32\); .* multiples of 128"),
        ("w2", lambda t: t[0], "w2 has shape"),
        ("scale2", lambda t: t.repeat(1, 1, 2)[..., ::2], "scale2 has strides"),
        ("scale2", lambda t: t.to("meta"), "scale2 .* on meta"),
    ],
)
def test_wrong_weights_are_refused_by_name(name, change, message):
    weights = make_weights(CASE, seed=1, device="cpu")
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(weights, **{name: change(getattr(weights, name))})


def test_static_scales_are_one_number_each():
    with pytest.raises(ValueError, match=r"static scale h is one float32, got torch.float32 \(2,\)"):
        StaticScales(torch.ones(1), torch.ones(2))


def test_the_grouped_path_starts_where_it_was_measured():
    measured = {"gpu": {256: 100, 1024: 40}}
    assert [first_grouped("gpu", inner, measured) for inner in (256, 1024, 128, 2048)] == [100, 40, 100, 40]
    assert first_grouped("gpu", 512, measured) == 100  # as near to both
    assert first_grouped("another", 256, measured) == UNMEASURED


def test_the_number_of_tokens_picks_the_path():
    paths = [choose_path(tokens, 256, "a device without measurements") for tokens in (1, UNMEASURED - 1, UNMEASURED)]
    assert [path.__name__ for path in paths] == ["int4_experts_decode", "int4_experts_decode", "int4_experts_grouped"]


def test_the_decode_path_takes_all_tokens_that_the_table_leaves_it():
    crossovers = [UNMEASURED, *(first for sizes in MEASURED.values() for first in sizes.values())]
    assert (max(crossovers) - 1) * 8 <= MAX_SLOTS  # GLM-5.2 has 8 experts a token


def test_work_counts_each_expert_once_and_each_slot():
    case = Case(3, 6144, 256, 256, 8, "")
    ids = torch.tensor([[0, 1, 2, 3, 4, 5, 6, -1], [0, 1, 2, 3, 4, 5, 6, 7], [9, 1, 2, 3, 4, 5, 6, 7]])
    work = work_of(case, ids)
    one = 3 * 256 * 6144
    assert work.weight_bytes == 9 * one * 66 // 128  # 64 bytes of nibbles and 2 of scale for 128 weights
    assert work.flops == 23 * 2 * one
    assert work.activation_bytes == 2 * 3 * 6144 * 2
    assert work + work == Work(2 * work.weight_bytes, 2 * work.activation_bytes, 2 * work.flops)


def test_the_floor_is_the_slower_of_memory_and_tensor_cores():
    limits = Limits(bytes_per_second=4e12, fp8_flops=2e15)
    assert limits.floor_us(Work(4_000_000, 4_000_000, 0)) == pytest.approx(2.0)
    assert limits.floor_us(Work(4_000_000, 0, 20_000_000_000)) == pytest.approx(10.0)
    assert Limits(4e12, None).floor_us(Work(4_000_000, 0, 20_000_000_000)) == pytest.approx(1.0)

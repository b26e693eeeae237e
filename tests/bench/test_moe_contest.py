"""Contenders on a small layer on the CPU: what is called right, what is caught, what a point counts."""

from __future__ import annotations

import dataclasses
from importlib import import_module
from importlib.util import find_spec

import pytest
import torch

from sglang_glm52.bench.moe_contenders import CHOICES, CONTENDERS, TUNED
from sglang_glm52.bench.moe_contest import Contest, describe, point_of
from sglang_glm52.bench.moe_layer import Layer, case_of, make_routings
from sglang_glm52.bench.moe_marlin import offset_words
from sglang_glm52.bench.moe_measure import (
    BOUND,
    CHECKED_TOKENS,
    WrongResultError,
    largest_difference,
    references,
)
from sglang_glm52.formats.int4_group import unpack_int4
from sglang_glm52.kernels.int4_experts import ref
from sglang_glm52.kernels.int4_experts.bench import Limits
from sglang_glm52.kernels.int4_experts.cases import Case, Inputs, make_weights
from sglang_glm52.kernels.int4_experts.weights import ExpertWeights, StaticScales

CASE = Case(20, 256, 128, 8, 2, "small", timed=True)
STATIC = StaticScales(torch.tensor([6.0 / 448]), torch.tensor([25.0 / 448]))


def layers() -> list[Layer]:
    return [Layer(make_weights(CASE, seed=seed, device="cpu"), STATIC) for seed in (1, 2)]


def routings() -> list[Inputs]:
    return make_routings(4, CASE, "cpu")


def call_of(weights: ExpertWeights, static: StaticScales | None = None):
    def call(inputs: Inputs) -> torch.Tensor:
        slots = {"topk_weights": inputs.topk_weights, "topk_ids": inputs.topk_ids}
        return ref.int4_experts(inputs.x, weights=weights, **slots, factor=inputs.factor, static=static)

    return call


def difference(*calls) -> float:
    return largest_difference(calls, routings(), references(layers(), routings()))


def test_the_right_result_passes_though_it_is_of_more_tokens():
    assert len(references(layers(), routings())[0]) == CHECKED_TOKENS < CASE.num_tokens
    assert difference(*(call_of(layer.weights) for layer in layers())) < 1e-3


def test_static_scales_pass_as_they_would_be_served():
    found = difference(*(call_of(layer.weights, layer.static) for layer in layers()))
    assert 0.01 < found < BOUND


WRONG = {
    "the other layer's weights": lambda w: layers()[1].weights,
    "gate and up exchanged": lambda w: dataclasses.replace(w, w13=w.w13.roll(128, 1), scale13=w.scale13.roll(128, 2)),
    "nibbles exchanged": lambda w: dataclasses.replace(w, w13=((w.w13 & 0xF) << 4) | ((w.w13 >> 4) & 0xF)),
    "a group's scale for its neighbour": lambda w: dataclasses.replace(w, scale13=w.scale13.roll(1, 1)),
    "experts exchanged": lambda w: dataclasses.replace(w, w2=w.w2.roll(1, 0)),
    "a scale of 1.2": lambda w: dataclasses.replace(w, scale2=(w.scale2.float() * 1.2).bfloat16()),
    "not a number": lambda w: dataclasses.replace(w, scale2=w.scale2 * float("nan")),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_set_up_cannot_win(mistake):
    with pytest.raises(WrongResultError, match="differs from the reference"):
        difference(call_of(WRONG[mistake](layers()[0].weights)))


@pytest.mark.parametrize("contender", CONTENDERS.values(), ids=lambda contender: contender.name)
def test_a_contender_has_its_function(contender):
    module, function = contender.prepare.split(":")
    assert callable(getattr(import_module(f"sglang_glm52.bench.{module}"), function))


def test_every_contender_can_be_asked_for():
    assert sorted([*(name for names in CHOICES.values() for name in names), *TUNED]) == sorted(CONTENDERS)


@pytest.mark.skipif(find_spec("humming") is not None, reason="humming-kernels is installed")
def test_what_is_not_installed_is_a_row_for_each_number_of_tokens():
    rows = list(Contest(layers(), {20: routings(), 40: routings()}).run(CONTENDERS["humming-w4a8"]))
    assert [(row.tokens, row.us) for row in rows] == [(20, None), (40, None)]
    assert all(row.problem == "not installed: No module named 'humming'" for row in rows)


@pytest.mark.skipif(torch.cuda.is_available(), reason="nothing fails")
def test_a_contender_that_raises_is_a_row_that_says_why():
    """Without a GPU this package's op can be prepared but not called."""
    [row] = Contest(layers(), {20: routings()}).run(CONTENDERS["ours"])
    assert (row.contender, row.tokens, row.us) == ("ours", 20, None) and row.problem


def test_a_long_message_is_one_short_line():
    assert describe(RuntimeError("first\nsecond")) == "RuntimeError: first"
    assert describe(ValueError()) == "ValueError: "
    assert len(describe(RuntimeError("x" * 1000))) == 200


def test_a_point_is_the_mean_over_its_routings():
    found = routings()
    point = point_of(CASE, found, Limits(bytes_per_second=1e12, fp8_flops=None))
    hit = [len(set(inputs.topk_ids.flatten().tolist())) for inputs in found]
    assert point.tokens == 20 and point.experts == sum(hit) / 4
    assert point.weight_bytes == pytest.approx(point.experts * 3 * 256 * 128 * 66 / 128)
    assert point.flops == 40 * 2 * 3 * 256 * 128
    assert point.floor_us == pytest.approx((point.weight_bytes + 2 * 20 * 256 * 2) / 1e12 * 1e6)


def test_the_published_shape_is_timed():
    case = case_of(16, 256, "power-law")
    assert (case.hidden, case.inner, case.num_experts, case.topk) == (6144, 256, 256, 8) and case.timed


def test_marlins_words_hold_q_plus_8_in_input_order():
    packed = make_weights(CASE, seed=1, device="cpu").w13
    words = offset_words(packed)
    nibbles = torch.stack([(words >> 4 * i) & 0xF for i in range(8)], dim=-1).flatten(-2)
    assert torch.equal(nibbles - 8, unpack_int4(packed).int())

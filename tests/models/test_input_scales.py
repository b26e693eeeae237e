"""Static activation scales: what is wrong with them, and which one a rank uses."""

from __future__ import annotations

import pytest
import torch

from sglang_glm52.models.input_scales import InputScales, weight_of

NAME = "model.layers.{}.mlp.experts.{}.{}.input_scale"
WEIGHTS = [
    f"model.layers.3.mlp.experts.{e}.{p}.weight" for e in range(2) for p in ("gate_proj", "up_proj", "down_proj")
]


def scales(values: dict[tuple[int, int, str], float]) -> InputScales:
    found = InputScales()
    for place, value in values.items():
        assert found.take(NAME.format(*place), torch.tensor(value)) == ""
    return found


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_is_a_number_above_zero(value):
    problem = InputScales().take(NAME.format(3, 0, "up_proj"), torch.tensor(value))
    assert problem.startswith(f"is {value}, expected a number above 0") and "SGLANG_GLM52_ACTIVATION" in problem


def test_a_scale_is_one_number_and_comes_once():
    found = InputScales()
    assert "of shape (2,), expected one float32" in found.take(NAME.format(3, 0, "up_proj"), torch.ones(2))
    assert found.take(NAME.format(3, 0, "up_proj"), torch.tensor([0.5])) == ""
    assert found.take(NAME.format(3, 0, "up_proj"), torch.tensor(0.5)) == "comes twice"


@pytest.mark.parametrize(("short", "long"), [("w1", "gate_proj"), ("w2", "down_proj"), ("w3", "up_proj")])
def test_both_spellings_are_one_scale(short, long):
    found = InputScales()
    assert found.take(NAME.format(3, 0, short), torch.tensor(0.5)) == ""
    assert found.take(NAME.format(3, 0, long), torch.tensor(0.5)) == "comes twice"
    assert weight_of(NAME.format(3, 0, short)) == f"model.layers.3.mlp.experts.0.{long}.weight"


def test_all_experts_share_the_largest_of_their_inputs_scales():
    found = scales({(3, 0, "gate_proj"): 0.5, (3, 1, "up_proj"): 0.7, (3, 1, "down_proj"): 0.1, (4, 0, "up_proj"): 0.9})
    assert found.largest() == {
        "model.layers.3.mlp.experts.w13_input_scale": pytest.approx(0.7),
        "model.layers.3.mlp.experts.w2_input_scale": pytest.approx(0.1),
        "model.layers.4.mlp.experts.w13_input_scale": pytest.approx(0.9),
    }


def test_missing_scales_are_those_of_experts():
    found = scales({(3, 0, "gate_proj"): 0.5, (3, 0, "up_proj"): 0.5})
    missing = found.missing([*WEIGHTS, "model.layers.3.mlp.shared_experts.up_proj.weight"])
    assert missing == [
        NAME.format(3, 0, "down_proj"),
        *(NAME.format(3, 1, p) for p in ("down_proj", "gate_proj", "up_proj")),
    ]


def test_a_projection_left_at_one_in_every_expert_was_not_calibrated():
    found = scales({(3, 0, "up_proj"): 1.0, (3, 1, "up_proj"): 1.0, (3, 0, "down_proj"): 1.0, (3, 1, "down_proj"): 0.2})
    [line] = found.left_at_one()
    assert line.startswith("model.layers.3.mlp.experts.*.up_proj.input_scale is 1.0 in every expert; calibrate")

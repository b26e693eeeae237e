"""Updates bring weights and their scales in calls of their own, as trainers do that send buckets of tensors."""

from __future__ import annotations

import pytest
import torch
from published_config import published
from torch import nn

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.errors import CheckpointError
from sglang_glm52.models.loading import load_checkpoint
from sglang_glm52.models.weights import Part

ARCH = Glm52Arch.from_config(published())  # FP8 in blocks of 128 x 128
WEIGHT = "model.layers.0.self_attn.o_proj.weight"
SCALE = f"{WEIGHT}_scale_inv"
PART = Part({WEIGHT: (256, 128)}, lambda name: False)
NEW_WEIGHT = torch.full((256, 128), 2.0).to(torch.float8_e4m3fn)
NEW_SCALE = torch.tensor([[0.5], [4.0]])


def model_with(**params: torch.Tensor) -> nn.Module:
    """A module with parameters `WEIGHT` and, where it is given, `SCALE`."""
    module = nn.Module()
    for name, value in params.items():
        module.register_parameter(name, nn.Parameter(value, requires_grad=False))
    for name in reversed(WEIGHT.split(".")[:-1]):
        outer = nn.Module()
        outer.add_module(name, module)
        module = outer
    return module


@pytest.fixture
def quantised() -> nn.Module:
    return model_with(weight=torch.zeros(256, 128).to(torch.float8_e4m3fn), weight_scale_inv=torch.ones(2, 1))


@pytest.fixture
def dequantised() -> nn.Module:
    """As on the CPU engine."""
    return model_with(weight=torch.zeros(256, 128))


@pytest.mark.parametrize("first", [WEIGHT, SCALE])
def test_quantised_weights_and_scales_come_in_any_call(quantised: nn.Module, first: str) -> None:
    new = {WEIGHT: NEW_WEIGHT, SCALE: NEW_SCALE}
    for name in sorted(new, key=lambda name: name != first):
        load_checkpoint(quantised, ARCH, PART, [(name, new[name])], complete=False)
    params = dict(quantised.named_parameters())
    assert torch.equal(params[WEIGHT].float(), NEW_WEIGHT.float())
    assert torch.equal(params[SCALE], NEW_SCALE)


@pytest.mark.parametrize(
    ("name", "tensor", "missing"), [(WEIGHT, NEW_WEIGHT, SCALE), (SCALE, NEW_SCALE, WEIGHT)], ids=["weight", "scale"]
)
def test_a_half_that_is_to_be_dequantised_is_refused_and_nothing_changes(
    dequantised: nn.Module, name: str, tensor: torch.Tensor, missing: str
) -> None:
    with pytest.raises(CheckpointError, match=f"missing: {missing} .in the same call"):
        load_checkpoint(dequantised, ARCH, PART, [(name, tensor)], complete=False)
    assert not dict(dequantised.named_parameters())[WEIGHT].any()


def test_both_halves_are_dequantised(dequantised: nn.Module) -> None:
    load_checkpoint(dequantised, ARCH, PART, [(SCALE, NEW_SCALE), (WEIGHT, NEW_WEIGHT)], complete=False)
    weight = dict(dequantised.named_parameters())[WEIGHT]
    assert (weight[:128] == 1.0).all() and (weight[128:] == 8.0).all()


def test_a_whole_checkpoint_lacks_no_scale(quantised: nn.Module) -> None:
    with pytest.raises(CheckpointError, match=f"missing: {SCALE}$"):
        load_checkpoint(quantised, ARCH, PART, [(WEIGHT, NEW_WEIGHT)], complete=True)

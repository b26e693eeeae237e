"""`head_linear` on a GPU: float32 sums in another order than in ref.py, so a neighbour in bf16 at most differs."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from chains import require_order

from sglang_glm52.kernels.head_linear import head_linear, ref
from sglang_glm52.kernels.head_linear.cases import CASES, Case, make_inputs

pytestmark = pytest.mark.gpu

NEIGHBOUR, ABSOLUTE = 2**-7, 1e-5  # a step of bf16 is at most 2^-7 of a number; sums that nearly cancel are off by less
GLM52 = Case(3, 8, 256, 512, "GLM-5.2 under TP 8")


def assert_near(got: torch.Tensor, want: torch.Tensor) -> None:
    assert (got.shape, got.dtype) == (want.shape, torch.bfloat16)
    torch.testing.assert_close(got.float(), want.float(), rtol=NEIGHBOUR, atol=ABSOLUTE)
    assert (got != want).float().mean() < 0.02 or not got.numel()


@pytest.mark.parametrize("case", [*CASES, Case(17, 3, 32, 96, "too many: cuBLAS")], ids=str)
def test_equals_the_reference(case: Case) -> None:
    inputs = make_inputs(case, seed=1, device="cuda")
    assert_near(head_linear(inputs.x, inputs.weight), ref.head_linear(inputs.x, inputs.weight))


def test_one_hot_inputs_return_the_weights() -> None:
    inputs = make_inputs(GLM52, seed=2, device="cuda")
    hot = torch.eye(512, device="cuda").bfloat16().unsqueeze(1).expand(-1, 8, -1)
    for first in range(0, 512, 16):
        got = head_linear(hot[first : first + 16].contiguous(), inputs.weight)
        assert torch.equal(got, inputs.weight[:, :, first : first + 16].permute(2, 0, 1)), first


def test_a_token_does_not_depend_on_the_others() -> None:
    inputs = make_inputs(Case(16, 8, 256, 512, ""), seed=3, device="cuda")
    together = head_linear(inputs.x, inputs.weight)
    for count in (1, 2, 7, 9):
        assert torch.equal(head_linear(inputs.x[:count], inputs.weight), together[:count])


def test_a_call_waits_for_the_one_that_writes_its_inputs() -> None:
    layers = [make_inputs(Case(4, 8, 256, 256, ""), seed=seed, device="cuda") for seed in range(8)]
    require_order([partial(head_linear, weight=layer.weight) for layer in layers], [layer.x for layer in layers])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": lambda x: x.float()}, "x is torch.float32"),
        ({"x": lambda x: x[:, :4]}, r"expected torch.bfloat16 \(num_tokens, 8, 512\)"),
        ({"x": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1)}, "x has strides"),
        ({"x": lambda x: x.cpu()}, "expected one GPU for both"),
        ({"weight": lambda w: w.half()}, "weight is torch.float16"),
        ({"weight": lambda w: w[:, :250]}, "250 x 512 numbers a head; expected multiples of 16 and 32"),
        ({"weight": lambda w: torch.cat([w, w], dim=2)}, "at most 512 inputs"),
        ({"weight": lambda w: w.cpu()}, "weight is on cpu"),
    ],
)
def test_other_arguments_are_refused(change: dict, words: str) -> None:
    inputs = make_inputs(GLM52, seed=4, device="cuda")
    given = {name: getattr(inputs, name) for name in ("x", "weight")}
    given |= {name: make(given[name]) for name, make in change.items()}
    with pytest.raises(ValueError, match=words):
        head_linear(**given)

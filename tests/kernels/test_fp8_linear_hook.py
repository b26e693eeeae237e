"""The hook on the host's FP8 linear layers: which calls the kernel takes, and that it gets the layer's own tensors."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import served
import torch
from sglang.srt.layers.quantization import fp8
from sglang.srt.layers.quantization.fp8 import Fp8LinearMethod
from sglang.srt.layers.quantization.fp8_utils import deepgemm_w8a8_block_fp8_linear_with_fallback
from sglang.srt.plugins.hook_registry import HookType, _wrap_fn

from sglang_glm52.arch import MODEL_TYPE
from sglang_glm52.env import Settings
from sglang_glm52.host.hooks import fp8_linear as hook
from sglang_glm52.kernels.fp8_linear import ref
from sglang_glm52.kernels.fp8_linear.cases import Case, make_inputs

CASE = Case(3, 48, 256, "")
HOSTS = "the host's"


@pytest.fixture
def apply(monkeypatch: pytest.MonkeyPatch):
    """The host's method with the hook around it; kernels are stood in for by the reference and a word."""

    def call(tokens: int = 3, *, model_type: str = MODEL_TYPE, choice: str = "fused", bias=None, change=None, **method):
        made = make_inputs(CASE, seed=1, device="cpu")
        given = SimpleNamespace(x=made.x.repeat(8, 1)[:tokens], weight=made.weight, scale=made.weight_scale)
        if change:
            change(given)
        own = Fp8LinearMethod.__new__(Fp8LinearMethod)
        own.w8a8_block_fp8_linear = deepgemm_w8a8_block_fp8_linear_with_fallback
        own.quant_config = SimpleNamespace(weight_block_size=[128, 128])
        vars(own).update(method)
        served.serve(monkeypatch, model_type)
        monkeypatch.setattr(hook, "settings", lambda: Settings(fp8_linear=choice))
        monkeypatch.setattr(hook, "fp8_linear", ref.fp8_linear)
        wrapped = _wrap_fn(lambda self, layer, x, bias=None: HOSTS, hook.apply_fused, HookType.AROUND)
        layer = SimpleNamespace(weight=given.weight, weight_scale_inv=given.scale)
        return wrapped(own, layer, given.x, bias), given

    return call


@pytest.mark.parametrize("tokens", [1, 16])
def test_few_tokens_are_this_package_s(apply, tokens) -> None:
    got, given = apply(tokens)
    assert torch.equal(got, ref.fp8_linear(given.x, given.weight, given.scale)) and len(got) == tokens


def rounded_already(given: SimpleNamespace) -> None:
    given.x = (given.x.to(torch.float8_e4m3fn), torch.ones(3, 2))


def three_dimensions(given: SimpleNamespace) -> None:
    given.x = given.x.unsqueeze(0)


def float16(given: SimpleNamespace) -> None:
    given.x = given.x.half()


def with_gaps(given: SimpleNamespace) -> None:
    given.x = torch.cat([given.x, given.x], 1)[:, : CASE.inputs]


def odd_address(given: SimpleNamespace) -> None:
    given.x = torch.cat([given.x.flatten()[:1], given.x.flatten()])[1:].view_as(given.x)


def odd_outputs(given: SimpleNamespace) -> None:
    given.weight = given.weight[:40]


def packed_scales(given: SimpleNamespace) -> None:
    given.scale = given.scale.int()


CHANGES = (rounded_already, three_dimensions, float16, with_gaps, odd_address, odd_outputs, packed_scales)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_the_kernel_does_not_take_is_the_host_s(apply, change) -> None:
    got, _ = apply(change=change)
    assert got == HOSTS


@pytest.mark.parametrize(
    "given",
    [
        {"tokens": 0},
        {"tokens": 17},
        {"model_type": "deepseek_v32"},
        {"choice": "host"},
        {"bias": torch.zeros(48)},
        {"w8a8_block_fp8_linear": fp8.apply_fp8_linear},
        {"quant_config": SimpleNamespace(weight_block_size=[64, 64])},
        {"quant_config": SimpleNamespace(weight_block_size=None)},
    ],
    ids=lambda given: next(iter(given)),
)
def test_other_calls_are_the_host_s(apply, given) -> None:
    got, _ = apply(**given)
    assert got == HOSTS


def test_a_piecewise_graph_is_traced_past_the_hook(monkeypatch) -> None:
    """In one piece, whatever the number of tokens, and without a look at what no trace can follow."""
    monkeypatch.setattr(hook, "is_in_piecewise_cuda_graph", lambda: True)
    monkeypatch.setattr(hook, "settings", lambda: pytest.fail("the environment was read"))
    wrapped = _wrap_fn(lambda self, layer, x, bias=None: x + layer, hook.apply_fused, HookType.AROUND)
    traced = torch.compile(lambda x: wrapped(None, 1.0, x), fullgraph=True, dynamic=True, backend="eager")
    for tokens in (3, 20):
        assert torch.equal(traced(torch.zeros(tokens, 4)), torch.ones(tokens, 4))

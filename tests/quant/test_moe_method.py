"""What the experts' parameters are once a model has loaded them; their products need a GPU (tests/gpu)."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from sglang.srt.layers.moe.moe_runner import MoeRunnerConfig
from sglang.srt.layers.moe.token_dispatcher import StandardDispatchOutput
from sglang.srt.layers.moe.topk import StandardTopKOutput

from sglang_glm52.kernels.int4_experts.cases import Case, make_weights
from sglang_glm52.quant.layout import row_major
from sglang_glm52.quant.moe_method import Int4ExpertsMethod, expert_weights

CASE = Case(1, 256, 128, 4, 2, "small")


def load(scheme: str) -> tuple[Int4ExpertsMethod, torch.nn.Module]:
    weights = make_weights(CASE, seed=1, device="cpu")
    method = Int4ExpertsMethod(SimpleNamespace(group_size=128, moe_activation_scheme=scheme))
    layer = torch.nn.Module()
    method.create_weights(layer, CASE.num_experts, CASE.hidden, CASE.inner, torch.bfloat16, weight_loader=None)
    for name in ("w13", "w2"):
        getattr(layer, f"{name}_weight").copy_(getattr(weights, name))
        getattr(layer, f"{name}_weight_scale_inv").copy_(row_major(getattr(weights, name.replace("w", "scale"))))
    if scheme == "static":
        layer.w13_input_scale.copy_(torch.tensor([[0.5, 0.5], [0.25, 2.0], [0.5, 0.5], [0.5, 0.5]]))
        layer.w2_input_scale.copy_(torch.tensor([0.25, 0.5, 4.0, 0.5]))
    method.process_weights_after_loading(layer)
    method.create_moe_runner(layer, MoeRunnerConfig(routed_scaling_factor=2.5))
    return method, layer


@pytest.mark.parametrize("scheme", ["dynamic", "static"])
def test_the_op_reads_what_was_loaded(scheme):
    found, expected = expert_weights(load(scheme)[1]), make_weights(CASE, seed=1, device="cpu")
    for name in ("w13", "scale13", "w2", "scale2"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


@pytest.mark.parametrize("scheme", ["dynamic", "static"])
def test_an_update_reaches_the_op_in_place(scheme):
    """As a loader writes it, in the checkpoint's order; CUDA graphs hold the addresses of the first load."""
    method, layer = load(scheme)
    addresses = {name: parameter.data_ptr() for name, parameter in layer.named_parameters()}
    before, other = expert_weights(layer), make_weights(CASE, seed=2, device="cpu")
    for name in ("w13", "w2"):
        getattr(layer, f"{name}_weight_scale_inv").data.copy_(row_major(getattr(other, name.replace("w", "scale"))))
    method.process_weights_after_loading(layer)
    after = expert_weights(layer)
    for name in ("scale13", "scale2"):
        assert torch.equal(getattr(after, name), getattr(other, name)), name
        assert getattr(after, name).data_ptr() == getattr(before, name).data_ptr(), name
    assert {name: parameter.data_ptr() for name, parameter in layer.named_parameters()} == addresses


def test_a_static_scale_is_the_largest_of_all_experts():
    _, layer = load("static")
    assert (layer.w13_input_scale.tolist(), layer.w2_input_scale.tolist()) == ([2.0], [4.0])
    assert layer.w13_input_scale.dtype == layer.w2_input_scale.dtype == torch.float32


def test_dynamic_scaling_keeps_no_static_scales():
    assert [name for name, _ in load("dynamic")[1].named_parameters() if "input_scale" in name] == []


@pytest.mark.parametrize("scheme", ["dynamic", "static"])
def test_no_token_is_no_work(scheme):
    method, layer = load(scheme)
    routing = StandardTopKOutput(torch.empty(0, 2), torch.empty(0, 2, dtype=torch.int32), None)
    x = torch.empty(0, CASE.hidden, dtype=torch.bfloat16)
    assert method.apply(layer, StandardDispatchOutput(x, None, routing)).hidden_states.shape == (0, CASE.hidden)

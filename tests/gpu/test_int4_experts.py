"""The quantisation method of the int4 experts on the GPU: parameters as a model loads them, calls as the host does.

The inner activations are rounded to FP8 on both sides, after sums in another order; what lies near a rounding edge
falls on different sides. If all values did so independently, each would differ by the root of two times the rounding
error of e4m3, 2.6 % (steps of 1/16 to 1/8, over the root of 12): 3.7 %, and a row, in which a few large values count
most, by up to a third more. So 5 % bounds a row's difference; the op's own tests are stricter. It is noise without a
direction: a row's projection on the expected one must be 1, to 3.7 % over the root of some 100 values that count, and
four times that for the worst of many rows; a scale or a weight that is applied wrongly moves it.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import pytest
import torch

from sglang_glm52.formats.int4_group import GROUP, Int4Group, quantize_int4_group
from sglang_glm52.kernels.int4_experts import ref
from sglang_glm52.kernels.int4_experts.cases import FACTOR, Case, make_inputs, make_weights

pytestmark = pytest.mark.gpu

NUM_EXPERTS, HIDDEN, INNER, TOPK = 16, 1024, 256, 4
BOUND = 0.05  # of the norm of the difference over the norm of the result
LEAN = 0.015  # of the projection's distance from 1
STATIC = (0.02, 0.05)


@cache
def make_experts(rows: int, cols: int, method: str, seed: int) -> list[Int4Group]:
    generator = torch.Generator().manual_seed(seed)
    shape = (NUM_EXPERTS, rows, cols)
    return [quantize_int4_group(w, method) for w in torch.randn(shape, generator=generator) * cols**-0.5]


def make_layer(w13: list[Int4Group], w2: list[Int4Group], scheme: str):
    """(method, layer) with the experts loaded, as a model would have them."""
    from sglang.srt.layers.moe.moe_runner import MoeRunnerConfig

    from sglang_glm52.quant.moe_method import Int4ExpertsMethod

    config = SimpleNamespace(group_size=GROUP, moe_activation_scheme=scheme)
    method, layer = Int4ExpertsMethod(config), torch.nn.Module()
    with torch.device("cuda"):
        method.create_weights(layer, NUM_EXPERTS, HIDDEN, INNER, torch.bfloat16, weight_loader=None)
    for param, experts in (("w13", w13), ("w2", w2)):
        for i, expert in enumerate(experts):
            getattr(layer, f"{param}_weight")[i] = expert.packed.cuda()
            getattr(layer, f"{param}_weight_scale_inv")[i] = expert.scale.float().cuda()
    if scheme == "static":
        for param, value in zip(("w13", "w2"), STATIC, strict=True):
            getattr(layer, f"{param}_input_scale").fill_(value)
    method.process_weights_after_loading(layer)
    method.create_moe_runner(layer, MoeRunnerConfig(routed_scaling_factor=FACTOR))
    return method, layer


def apply(method, layer, x: torch.Tensor, weights: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    from sglang.srt.layers.moe.token_dispatcher import StandardDispatchOutput
    from sglang.srt.layers.moe.topk import StandardTopKOutput

    routing = StandardTopKOutput(weights.cuda(), ids.cuda(), None)
    return method.apply(layer, StandardDispatchOutput(x.cuda(), None, routing)).hidden_states


def assert_same_rows(got: torch.Tensor, want: torch.Tensor) -> None:
    got, want = got.float().cpu(), want.float().cpu()
    difference = ((got - want).norm(dim=1) / want.norm(dim=1)).nan_to_num()  # 0 / 0 where no expert is here
    lean = ((got * want).sum(dim=1) / want.square().sum(dim=1) - 1.0).nan_to_num().abs()
    print(f"rows differ by {difference.mean():.2e}, at most {difference.max():.2e}; lean at most {lean.max():.2e}")
    assert got.isfinite().all() and (got[want.norm(dim=1) == 0] == 0).all()
    assert difference.max() < BOUND and lean.max() < LEAN


@pytest.mark.parametrize("scheme", ["dynamic", "static"])
@pytest.mark.parametrize("method", ["rtn", "mse"])  # mse has scales below zero as well
@pytest.mark.parametrize("num_tokens", [1, 7, 130])
@pytest.mark.parametrize("has_all_experts", [True, False], ids=["one-rank", "expert-parallel"])
def test_equals_the_reference(scheme: str, method: str, num_tokens: int, has_all_experts: bool) -> None:
    from sglang_glm52.kernels.int4_experts.weights import StaticScales
    from sglang_glm52.quant.moe_method import expert_weights

    w13, w2 = make_experts(2 * INNER, HIDDEN, method, 1), make_experts(HIDDEN, INNER, method, 2)
    if method == "mse":
        assert any((expert.scale < 0).any() for expert in w13)
    generator = torch.Generator().manual_seed(num_tokens)
    x = torch.randn(num_tokens, HIDDEN, generator=generator).bfloat16()
    if scheme == "dynamic":
        x[0] *= 1000.0  # a token of another size must not cost the others their precision
    weights, ids = torch.rand(num_tokens, NUM_EXPERTS, generator=generator).topk(TOPK)
    ids = ids.int() if has_all_experts else torch.where(ids < NUM_EXPERTS // 2, ids, -1).int()
    layer = make_layer(w13, w2, scheme)
    got = apply(*layer, x, weights, ids)
    static = StaticScales(*torch.tensor(STATIC, device="cuda").view(2, 1)) if scheme == "static" else None
    slots = {"topk_weights": weights.cuda(), "topk_ids": ids.cuda()}
    want = ref.int4_experts(x.cuda(), weights=expert_weights(layer[1]), **slots, factor=FACTOR, static=static)
    assert_same_rows(got, want)


def test_static_scales_give_what_the_hosts_kernels_give() -> None:
    from sglang_glm52.bench.moe_host import prepare
    from sglang_glm52.bench.moe_layer import Layer
    from sglang_glm52.kernels.int4_experts import int4_experts
    from sglang_glm52.kernels.int4_experts.weights import StaticScales

    case = Case(130, HIDDEN, INNER, NUM_EXPERTS, TOPK, "against the host", timed=True)
    weights, inputs = make_weights(case, seed=1, device="cuda"), make_inputs(case, seed=2, device="cuda")
    static = StaticScales(*torch.tensor(STATIC, device="cuda").view(2, 1))
    slots = {"topk_weights": inputs.topk_weights, "topk_ids": inputs.topk_ids}
    got = int4_experts(inputs.x, weights=weights, **slots, factor=FACTOR, static=static)
    assert_same_rows(got, prepare(Layer(weights, static))(inputs))

"""int4 experts with a scale a token on the GPU against plain torch.

The inner activations are rounded to FP8 on both sides, after a GEMM that adds in another order and writes bf16. What
lies near a rounding edge falls on different sides. If all values did so independently, each would differ by the root of
two times the rounding error of e4m3, 2.6 % (steps of 1/16 to 1/8, over the root of 12): 3.7 %, and a row, in which a
few large values count most, by up to a third more. So 5 % bounds a row's difference. It is noise without a direction: a
row's projection on the expected one must be 1, to 3.7 % over the root of some 100 values that count, and four times
that for the worst of many rows; a scale or a weight that is applied wrongly moves it.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import pytest
import torch

from sglang_glm52.formats.int4_group import Int4Group, quantize_int4_group
from sglang_glm52.quant import reference

pytestmark = pytest.mark.gpu

NUM_EXPERTS, HIDDEN, INNER, TOPK = 16, 1024, 256, 4
FACTOR = 2.5
BOUND = 0.05  # of the norm of the difference over the norm of the result
LEAN = 0.015  # of the projection's distance from 1


@cache
def make_experts(rows: int, cols: int, method: str, seed: int) -> list[Int4Group]:
    generator = torch.Generator().manual_seed(seed)
    shape = (NUM_EXPERTS, rows, cols)
    return [quantize_int4_group(w, method) for w in torch.randn(shape, generator=generator) * cols**-0.5]


def make_layer(w13: list[Int4Group], w2: list[Int4Group]):
    """(method, layer) with the experts loaded, as a model would have them."""
    from sglang_glm52.quant.dynamic_experts import DynamicExpertsMethod

    method, layer = DynamicExpertsMethod(SimpleNamespace(group_size=128)), torch.nn.Module()
    with torch.device("cuda"):
        method.create_weights(layer, NUM_EXPERTS, HIDDEN, INNER, torch.bfloat16, weight_loader=None)
    for param, experts in (("w13", w13), ("w2", w2)):
        for i, expert in enumerate(experts):
            getattr(layer, f"{param}_weight")[i] = expert.packed.cuda()
            getattr(layer, f"{param}_weight_scale_inv")[i] = expert.scale.float().cuda()
    method.process_weights_after_loading(layer)
    return method, layer


@pytest.mark.parametrize("method", ["rtn", "mse"])  # mse has scales below zero as well
@pytest.mark.parametrize("num_tokens", [1, 7, 130])
@pytest.mark.parametrize("has_all_experts", [True, False], ids=["one-rank", "expert-parallel"])
def test_equals_the_reference(method: str, num_tokens: int, has_all_experts: bool) -> None:
    from sglang_glm52.quant.dynamic_experts import apply_int4_experts

    w13, w2 = make_experts(2 * INNER, HIDDEN, method, 1), make_experts(HIDDEN, INNER, method, 2)
    if method == "mse":
        assert any((expert.scale < 0).any() for expert in w13)
    generator = torch.Generator().manual_seed(num_tokens)
    x = torch.randn(num_tokens, HIDDEN, generator=generator).bfloat16()
    x[0] *= 1000.0  # a token of another size must not cost the others their precision
    scores = torch.rand(num_tokens, NUM_EXPERTS, generator=generator)
    weights, ids = scores.topk(TOPK)
    ids = ids.int() if has_all_experts else torch.where(ids < NUM_EXPERTS // 2, ids, -1).int()
    layer = make_layer(w13, w2)
    got = apply_int4_experts(*layer, x.cuda(), weights.cuda(), ids.cuda(), FACTOR).float().cpu()
    want = FACTOR * reference.int4_experts(x, w13, w2, weights, ids)
    difference = ((got - want).norm(dim=1) / want.norm(dim=1)).nan_to_num()  # 0 / 0 where no expert is here
    lean = ((got * want).sum(dim=1) / want.square().sum(dim=1) - 1.0).nan_to_num().abs()
    print(f"rows differ by {difference.mean():.2e}, at most {difference.max():.2e}; lean at most {lean.max():.2e}")
    assert (got[want.norm(dim=1) == 0] == 0).all() and difference.max() < BOUND and lean.max() < LEAN

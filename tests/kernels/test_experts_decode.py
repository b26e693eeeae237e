"""The decode path of `int4_experts` on a GPU.

The reference rounds to FP8 as the kernels do, so what differs is float32 sums in another order, by about 1e-6 of a
sum. Rarely that moves a value of h across the middle of two bf16 numbers, and then by 2^-8 of itself; of such values a
few in a hundred move on to another e4m3 number, and if it is the largest of its row, all of the row are scaled by
another 2^-8, and a few in a hundred of them move by 2^-3 to 2^-4 of themselves. That is a difference of 2 % in one of a
row's slots. A wrong scale, nibble or token differs by much more, in every row.
"""

from __future__ import annotations

import pytest
import torch

from sglang_glm52.formats.int4_group import GROUP, dequantize_int4_group, pack_int4
from sglang_glm52.kernels.int4_experts import ref
from sglang_glm52.kernels.int4_experts.cases import CASES, Case, Inputs, make_inputs, make_weights
from sglang_glm52.kernels.int4_experts.decode import int4_experts_decode
from sglang_glm52.kernels.int4_experts.tuning import MAX_SLOTS
from sglang_glm52.kernels.int4_experts.weights import ExpertWeights, StaticScales

pytestmark = pytest.mark.gpu

WORST_ROW, MEAN = 0.02, 0.002  # norm of a row's difference over the norm of the row
FITTING = [case for case in CASES if case.num_tokens * case.topk <= MAX_SLOTS]
SMALL = Case(7, 1024, 256, 16, 4, "several tokens an expert")
GLM52 = Case(16, 6144, 256, 256, 8, "GLM-5.2, TP 8")


def arguments(inputs: Inputs) -> dict[str, object]:
    return {name: getattr(inputs, name) for name in ("topk_weights", "topk_ids", "factor", "static")}


def decode(weights: ExpertWeights, inputs: Inputs) -> torch.Tensor:
    return int4_experts_decode(inputs.x, weights=weights, **arguments(inputs))


def on_cpu(weights: ExpertWeights, inputs: Inputs) -> torch.Tensor:
    """The reference's result. On the CPU, where torch divides by 448 rather than multiply by a rounded 1 / 448."""
    held = ExpertWeights(weights.w13.cpu(), weights.scale13.cpu(), weights.w2.cpu(), weights.scale2.cpu())
    static = inputs.static and StaticScales(inputs.static.x.cpu(), inputs.static.h.cpu())
    given = arguments(inputs) | {"static": static}
    moved = {name: value.cpu() if isinstance(value, torch.Tensor) else value for name, value in given.items()}
    return ref.int4_experts(inputs.x.cpu(), weights=held, **moved)


@pytest.mark.parametrize("case", FITTING, ids=str)
def test_equals_the_reference(case: Case) -> None:
    weights, inputs = make_weights(case, seed=1, device="cuda"), make_inputs(case, seed=2, device="cuda")
    got = decode(weights, inputs).cpu()
    want = on_cpu(weights, inputs)
    assert (got.shape, got.dtype) == (want.shape, torch.bfloat16)
    if case.num_tokens == 0:
        return
    size = want.float().norm(dim=1)
    assert (got[size == 0] == 0).all()
    difference = ((got.float() - want.float()).norm(dim=1) / size).nan_to_num()  # 0 / 0 where no expert is here
    print(f"rows differ by {difference.mean():.2e}, at most {difference.max():.2e}")
    assert difference.max() < WORST_ROW and difference.mean() < MEAN


@pytest.mark.parametrize("case", [SMALL, GLM52], ids=str)
def test_equal_arguments_give_equal_bits(case: Case) -> None:
    """Also where one call starts while the one before it, of other tokens, still runs."""
    weights = make_weights(case, seed=1, device="cuda")
    inputs = [make_inputs(case, seed=seed, device="cuda") for seed in (2, 3)]
    first = []
    for tokens in inputs:
        first.append(decode(weights, tokens))
        torch.cuda.synchronize()
    again = [[decode(weights, tokens) for tokens in inputs] for _ in range(50)]
    assert all(torch.equal(a, b) for results in again for a, b in zip(results, first, strict=True))


def test_a_cuda_graph_replays_with_other_data() -> None:
    weights, inputs = make_weights(GLM52, seed=1, device="cuda"), make_inputs(GLM52, seed=2, device="cuda")
    others = [make_inputs(GLM52, seed=seed, device="cuda") for seed in (3, 4)]
    want = [decode(weights, other) for other in others]
    decode(weights, inputs)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = decode(weights, inputs)
    for other, expected in zip(others, want, strict=True):
        for name in ("x", "topk_weights", "topk_ids"):
            getattr(inputs, name).copy_(getattr(other, name))
        graph.replay()
        assert torch.equal(out, expected)


def test_one_hot_tokens_return_the_down_weights() -> None:
    """A token whose h has one value returns a column of w2: every step is exact, so are the bits."""
    num_experts, hidden, inner = 4, 256, 256
    columns = torch.arange(inner, device="cuda")
    template = make_weights(Case(0, hidden, inner, num_experts, 1, ""), seed=5, device="cuda")
    w13 = torch.zeros(num_experts, 2, inner, hidden, dtype=torch.int8, device="cuda")
    w13[:, :, columns, columns] = 1  # gate = up = 448 / 8 for the input that is 448
    eighth = torch.full_like(template.scale13, 0.125)
    weights = ExpertWeights(pack_int4(w13.flatten(1, 2)), eighth, template.w2, template.scale2)
    x = torch.zeros(inner, hidden, dtype=torch.bfloat16, device="cuda")
    x[columns, columns] = 448.0
    ids = (columns % num_experts).int()[:, None]
    got = int4_experts_decode(x, weights=weights, topk_weights=torch.ones_like(ids).float(), topk_ids=ids, factor=0.25)
    for token, expert in enumerate(ids[:, 0].tolist()):
        column = dequantize_int4_group(weights.w2[expert], weights.scale2[expert].T)[:, token]
        assert torch.equal(got[token], (column * (56.0 * 56.0 * 0.25)).bfloat16()), token


@pytest.mark.parametrize("part", ["gate", "up"])
def test_one_hot_tokens_return_the_gate_and_up_weights(part: str) -> None:
    """With w2 the identity a token of one value returns fp8 of silu(gate) * up, of one column of w13.

    The other part is 56 in every row, and |gate| is at least 32 or 0, where float32 has silu(gate) = max(gate, 0) but
    for values that FP8 rounds to zero: so every step but the two roundings is exact, and those have one operand.
    """
    num_experts, hidden, inner = 4, 256, 256
    inputs = torch.arange(hidden, device="cuda")
    generator = torch.Generator("cuda").manual_seed(6)
    q = torch.randint(-8, 8, (num_experts, inner, hidden), generator=generator, device="cuda", dtype=torch.int8)
    groups = (num_experts, hidden // GROUP, inner)
    scale = torch.empty(groups, device="cuda").uniform_(0.08, 1.0, generator=generator)
    scale = (scale * torch.randint(0, 2, groups, generator=generator, device="cuda").mul(2).sub(1)).bfloat16()
    one, eighth = torch.ones_like(q), torch.full_like(scale, 0.125)
    gate, up = ((q, scale), (one, eighth)) if part == "gate" else ((one, eighth), (q, scale))
    identity = torch.eye(hidden, inner, device="cuda", dtype=torch.int8).expand(num_experts, -1, -1).contiguous()
    ones = torch.ones(num_experts, inner // GROUP, hidden, dtype=torch.bfloat16, device="cuda")
    w13, scale13 = torch.cat([gate[0], up[0]], dim=1), torch.cat([gate[1], up[1]], dim=2)
    weights = ExpertWeights(pack_int4(w13), scale13, pack_int4(identity), ones)
    x = torch.diag(torch.full((hidden,), 448.0, device="cuda")).bfloat16()
    ids = (inputs % num_experts).int()[:, None]
    got = int4_experts_decode(x, weights=weights, topk_weights=torch.ones_like(ids).float(), topk_ids=ids, factor=1.0)
    decoded = dequantize_int4_group(pack_int4(q).flatten(0, 1), scale.transpose(1, 2).flatten(0, 1))
    decoded = decoded.view_as(q)[ids[:, 0], :, inputs] * 448.0  # [hidden, inner]
    h = (56.0 * (decoded.clamp_min(0.0) if part == "gate" else decoded)).bfloat16()
    rounded, a2 = ref.quantize_rows(h.cpu())
    assert torch.equal(got.cpu(), (rounded * a2).bfloat16())


def test_one_token_may_name_an_expert_twice() -> None:
    weights, inputs = make_weights(SMALL, seed=1, device="cuda"), make_inputs(SMALL, seed=2, device="cuda")
    inputs.topk_ids[:] = inputs.topk_ids[:, :1]
    got, want = decode(weights, inputs).cpu().float(), on_cpu(weights, inputs).float()
    assert ((got - want).norm(dim=1) / want.norm(dim=1)).max() < WORST_ROW


def test_refuses_more_tokens_than_it_has_memory_for() -> None:
    case = Case(MAX_SLOTS // 4 + 1, 256, 128, 8, 4, "one token too many")
    weights, inputs = make_weights(case, seed=1, device="cuda"), make_inputs(case, seed=2, device="cuda")
    with pytest.raises(ValueError, match=f"513 tokens with 4 experts each; the decode path takes at most {MAX_SLOTS}"):
        decode(weights, inputs)


def test_refuses_inputs_of_another_form_by_name() -> None:
    weights, inputs = make_weights(SMALL, seed=1, device="cuda"), make_inputs(SMALL, seed=2, device="cuda")
    given = {"x": inputs.x, **arguments(inputs)}
    shifted = torch.empty(inputs.x.numel() + 1, dtype=torch.bfloat16, device="cuda")[1:].view_as(inputs.x)
    for name, value, words in (
        ("x", inputs.x.float(), "x is torch.float32"),
        ("x", inputs.x.T.contiguous().T, "x has strides"),
        ("x", shifted, "x does not start at a multiple of 16 bytes"),
        ("topk_ids", inputs.topk_ids.long(), "topk_ids is torch.int64"),
        ("topk_weights", inputs.topk_weights.T.contiguous().T, "topk_weights has strides"),
    ):
        with pytest.raises(ValueError, match=words):
            int4_experts_decode(**(given | {name: value}), weights=weights)

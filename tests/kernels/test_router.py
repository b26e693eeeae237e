"""The router on a GPU.

Logits are float32 sums of some thousand products of bf16 numbers, of a deviation of 2: in another order they differ by
some 1e-6. The slope of a sigmoid is 1/4 at most, so scores differ by a quarter of that, and other experts are chosen
where two scores lie nearer to each other, which none of these do.
"""

from __future__ import annotations

import pytest
import torch

from sglang_glm52.kernels.router import ref, router
from sglang_glm52.kernels.router.bench import host_choice
from sglang_glm52.kernels.router.cases import CASES, Case, Inputs, make_inputs
from sglang_glm52.kernels.router.kernel import choose_experts, router_logits

pytestmark = pytest.mark.gpu

LOGITS, WEIGHTS = 1e-5, 1e-5  # largest difference
GLM52 = Case(4, 6144, 256, 8, "GLM-5.2")


def route(inputs: Inputs, *, renormalize: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    return router(inputs.x, inputs.weight, inputs.bias, inputs.topk, renormalize=renormalize)


@pytest.mark.parametrize("renormalize", [True, False], ids=["renormalized", "raw"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_reference(case: Case, renormalize: bool) -> None:
    inputs = make_inputs(case, seed=1, device="cuda")
    logits = router_logits(inputs.x, inputs.weight)
    assert (logits.shape, logits.dtype) == ((case.num_tokens, case.num_experts), torch.float32)
    torch.testing.assert_close(logits, ref.router_logits(inputs.x, inputs.weight), rtol=0, atol=LOGITS)
    weights, experts = choose_experts(logits, inputs.bias, case.topk, renormalize=renormalize)
    want, chosen = ref.choose_experts(logits, inputs.bias, case.topk, renormalize=renormalize)
    assert torch.equal(experts, chosen)
    torch.testing.assert_close(weights, want, rtol=0, atol=WEIGHTS)


@pytest.mark.parametrize("num_tokens", [1, 5, 700])
def test_chooses_as_the_host_does(num_tokens: int) -> None:
    pytest.importorskip("sglang")
    inputs = make_inputs(Case(num_tokens, 6144, 256, 8, ""), seed=2, device="cuda")
    logits = (inputs.x.float() @ inputs.weight.float().T).contiguous()
    weights, experts = choose_experts(logits, inputs.bias, inputs.topk, renormalize=True)
    want, chosen = host_choice(logits, inputs)
    assert (experts != chosen).float().mean() < 1e-3  # its sigmoid is off in the last bits, which moves near neighbours
    torch.testing.assert_close(weights, want, rtol=0, atol=WEIGHTS)


def test_of_equal_scores_the_first_are_chosen() -> None:
    logits = torch.zeros(2, 256, device="cuda")
    logits[1, [7, 100, 201]] = 1.0
    _, experts = choose_experts(logits, torch.zeros(256, device="cuda"), 4, renormalize=True)
    assert experts.tolist() == [[0, 1, 2, 3], [7, 100, 201, 0]]


def test_a_bias_below_every_score_is_ordered_too() -> None:
    bias = -torch.arange(64, device="cuda", dtype=torch.float32)
    weights, experts = choose_experts(torch.zeros(1, 64, device="cuda"), bias, 3, renormalize=False)
    assert experts.tolist() == [[0, 1, 2]] and weights.tolist() == [[0.5, 0.5, 0.5]]


def test_a_token_does_not_depend_on_the_others() -> None:
    inputs = make_inputs(Case(32, 6144, 256, 8, ""), seed=3, device="cuda")
    together = router_logits(inputs.x, inputs.weight)
    for count in (1, 3, 8, 9, 31):
        assert torch.equal(router_logits(inputs.x[:count], inputs.weight), together[:count])


def test_equal_arguments_give_equal_bits_alone_and_in_a_graph() -> None:
    """Also where a call starts while the one that writes its inputs still runs."""
    both = [make_inputs(GLM52, seed=seed, device="cuda") for seed in (4, 5)]
    want = []
    for inputs in both:
        want.append(route(inputs))
        torch.cuda.synchronize()
    given, graph = both[0].x.clone(), torch.cuda.CUDAGraph()
    held = [Inputs(torch.empty_like(given), each.weight, each.bias, each.topk) for each in both]
    with torch.cuda.graph(graph):
        out = []
        for each in held:
            each.x.copy_(given)
            out.append(route(each))
    for turn in range(50):
        given.copy_(both[turn % 2].x)
        graph.replay()
        for got, expected in zip(out[turn % 2], want[turn % 2], strict=True):
            assert torch.equal(got, expected)
        again = [route(inputs) for inputs in both]
        assert all(torch.equal(a, b) for pair in zip(again, want, strict=True) for a, b in zip(*pair, strict=True))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": lambda x: x.float()}, "x is torch.float32"),
        ({"x": lambda x: x.repeat(9, 1)}, "at most 32 tokens"),
        ({"x": lambda x: x[:, :512]}, r"weight is torch.bfloat16 \(256, 6144\); expected torch.bfloat16 \(256, 512\)"),
        ({"x": lambda x: x.T.contiguous().T}, "x has strides"),
        ({"x": lambda x: x.cpu()}, "expected one GPU for all"),
        ({"weight": lambda w: w.cpu()}, "weight is on cpu"),
        ({"bias": lambda b: b.bfloat16()}, "bias is torch.bfloat16"),
        ({"bias": lambda b: b[:8]}, r"expected torch.float32 \(256,\)"),
        ({"topk": lambda _: 33}, "topk is 33; expected 1 to 32"),
    ],
)
def test_other_arguments_are_refused(change: dict, words: str) -> None:
    inputs = make_inputs(GLM52, seed=6, device="cuda")
    given = {name: getattr(inputs, name) for name in ("x", "weight", "bias", "topk")}
    given |= {name: make(given[name]) for name, make in change.items()}
    with pytest.raises(ValueError, match=words):
        router(**given, renormalize=True)

"""Small calls of every kernel, for compute-sanitizer to watch; docs/kernels.md has the commands.

Tensors are made and compared on the CPU, so that nearly all that the tool slows down is these kernels. Without it the
tests hold only that results are right: that no kernel reads or writes elsewhere is what the tool adds.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable

import pytest
import torch

from sglang_glm52.kernels.fp8_linear import cases as linear_cases
from sglang_glm52.kernels.fp8_linear import fp8_linear
from sglang_glm52.kernels.fp8_linear import ref as linear_ref
from sglang_glm52.kernels.fp8_linear.cases import Case as Layer
from sglang_glm52.kernels.head_linear import cases as head_cases
from sglang_glm52.kernels.head_linear import head_linear
from sglang_glm52.kernels.head_linear import ref as head_ref
from sglang_glm52.kernels.index_topk import cases as topk_cases
from sglang_glm52.kernels.index_topk import index_topk
from sglang_glm52.kernels.index_topk import ref as topk_ref
from sglang_glm52.kernels.index_topk.cases import Case as Rows
from sglang_glm52.kernels.int4_experts import cases, ref
from sglang_glm52.kernels.int4_experts.cases import Case, Inputs
from sglang_glm52.kernels.int4_experts.decode import int4_experts_decode
from sglang_glm52.kernels.int4_experts.grouped import int4_experts_grouped
from sglang_glm52.kernels.int4_experts.weights import ExpertWeights, StaticScales
from sglang_glm52.kernels.int4_quantize import int4_quantize
from sglang_glm52.kernels.int4_quantize import ref as quantize_ref
from sglang_glm52.kernels.int4_quantize.cases import Case as Slab
from sglang_glm52.kernels.int4_quantize.cases import make_weight
from sglang_glm52.kernels.mla_prologue import cases as prologue_cases
from sglang_glm52.kernels.mla_prologue import ref as prologue_ref
from sglang_glm52.kernels.mla_prologue.cases import Case as Layers
from sglang_glm52.kernels.mla_prologue.kernel import absorbed_query, index_prologue, mla_prologue, mla_query
from sglang_glm52.kernels.request_tables import cases as table_cases
from sglang_glm52.kernels.request_tables import ref as tables_ref
from sglang_glm52.kernels.request_tables import request_tables
from sglang_glm52.kernels.router import cases as router_cases
from sglang_glm52.kernels.router import ref as router_ref
from sglang_glm52.kernels.router import router
from sglang_glm52.kernels.sparse_mla import cases as attention_cases
from sglang_glm52.kernels.sparse_mla import ref as attention_ref
from sglang_glm52.kernels.sparse_mla import sparse_mla
from sglang_glm52.kernels.sparse_mla.cases import Case as Attention

pytestmark = pytest.mark.gpu
# A graph's tensors come from a pool of the caching allocator.
needs_caching = pytest.mark.skipif("PYTORCH_NO_CUDA_MEMORY_CACHING" in os.environ, reason="no memory for graphs")

BOUND = 0.08  # of the norm of a row's difference over the norm of the row; test_experts_random.py has stricter ones

FEW = (
    Case(1, 128, 128, 4, 2, "a warp sorts the slots, one group on both sides"),
    Case(5, 640, 384, 8, 4, "odd numbers of groups"),
    Case(37, 256, 128, 6, 2, "a block sorts the slots, more than one unit an expert", routing="power-law"),
    Case(9, 256, 256, 4, 2, "static scales", is_static=True),
    Case(9, 256, 128, 4, 2, "experts of other ranks", total_experts=12),
)
MANY = (
    Case(500, 128, 128, 6, 2, "the second tiling"),
    Case(1200, 128, 128, 6, 4, "the third tiling, slots sorted chunk by chunk", total_experts=8),
    Case(5, 256, 640, 4, 2, "more groups of inner than are held in shared memory"),
    Case(1500, 640, 512, 3, 2, "experts with several tiles of the first product in CUDA C++"),
)


def on_gpu(weights: ExpertWeights) -> ExpertWeights:
    return ExpertWeights(*(getattr(weights, part.name).cuda() for part in dataclasses.fields(weights)))


def arguments(inputs: Inputs, device: str) -> dict[str, object]:
    """All but the weights."""
    held = {part.name: getattr(inputs, part.name) for part in dataclasses.fields(inputs)}
    held["static"] = inputs.static and StaticScales(inputs.static.x.to(device), inputs.static.h.to(device))
    return {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in held.items()}


def assert_equal(got: torch.Tensor, weights: ExpertWeights, inputs: Inputs) -> None:
    want = ref.int4_experts(**arguments(inputs, "cpu"), weights=weights).float()
    size = want.norm(dim=1)
    difference = (got.cpu().float() - want).norm(dim=1)
    assert (difference <= BOUND * size).all(), difference / size


@pytest.mark.parametrize(
    "path, case",
    [
        *((int4_experts_decode, case) for case in FEW),
        *((int4_experts_grouped, case) for case in FEW + MANY),
    ],
    ids=lambda value: str(value) if isinstance(value, Case) else value.__name__.removeprefix("int4_experts_"),
)
def test_experts(path: Callable[..., torch.Tensor], case: Case) -> None:
    weights, inputs = cases.make_weights(case, seed=1, device="cpu"), cases.make_inputs(case, seed=2, device="cpu")
    assert_equal(path(**arguments(inputs, "cuda"), weights=on_gpu(weights)), weights, inputs)


@needs_caching
@pytest.mark.parametrize("path", [int4_experts_decode, int4_experts_grouped], ids=["decode", "grouped"])
def test_experts_in_a_graph(path: Callable[..., torch.Tensor]) -> None:
    """Replayed twice in a row, with data of its own each time."""
    case = FEW[2]
    weights = cases.make_weights(case, seed=1, device="cpu")
    calls = [cases.make_inputs(case, seed=seed, device="cpu") for seed in (2, 3)]
    held, loaded = arguments(calls[0], "cuda"), on_gpu(weights)
    path(**held, weights=loaded)  # compiled before the capture
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = path(**held, weights=loaded)
    results = []
    for call in calls:
        for name in ("x", "topk_weights", "topk_ids"):
            held[name].copy_(getattr(call, name))
        graph.replay()
        results.append(out.clone())
    for call, got in zip(calls, results, strict=True):
        assert_equal(got, weights, call)


@pytest.mark.parametrize(
    "slab",
    [
        Slab(129, 256, torch.float8_e4m3fn, "normal", "one row in the lower blocks"),
        Slab(11, 640, torch.bfloat16, "normal", "groups that no program's number divides"),
        Slab(1, 128, torch.float32, "normal", "one group"),
    ],
    ids=str,
)
def test_quantiser(slab: Slab) -> None:
    weight, block_scale = make_weight(slab, seed=1)
    want = quantize_ref.int4_quantize(weight, block_scale=block_scale, method="rtn")
    got = int4_quantize(
        weight.cuda(), block_scale=block_scale if block_scale is None else block_scale.cuda(), method="rtn"
    )
    assert torch.equal(got.packed.cpu(), want.packed) and torch.equal(got.scale.cpu(), want.scale)


@pytest.mark.parametrize(
    "layer",
    [
        Layer(1, 16, 128, "one unit of weights"),
        Layer(9, 336, 1408, "one token in the second tile, odd numbers of tiles and groups"),
        Layer(13, 64, 6528, "groups shared out over a cluster"),
    ],
    ids=str,
)
def test_linear(layer: Layer) -> None:
    made = linear_cases.make_inputs(layer, seed=1, device="cpu", exact=True)
    want = linear_ref.fp8_linear(made.x, made.weight, made.weight_scale).float()
    got = fp8_linear(made.x.cuda(), made.weight.cuda(), made.weight_scale.cuda()).cpu().float()
    assert ((got - want).norm(dim=1) <= 1e-3 * want.norm(dim=1)).all()


@pytest.mark.parametrize(
    "rows",
    [
        Rows(3, 20011, "eight-values", "equal scores", starts=True, encoding="table-rows"),
        Rows(1, 70000, "normal", "a row shared by a cluster", encoding="offsets"),
        Rows(20, 300, "normal", "fewer scores than are wanted"),
    ],
    ids=str,
)
def test_topk(rows: Rows) -> None:
    made = topk_cases.make_inputs(rows, seed=1, device="cpu")
    options = {name: each for name, each in made.options().items() if each is not None}
    want = topk_ref.index_topk(made.scores, made.lengths, rows.topk, **options)
    on_gpu = {name: each.cuda() for name, each in options.items()}
    assert torch.equal(index_topk(made.scores.cuda(), made.lengths.cuda(), rows.topk, **on_gpu).cpu(), want)


@pytest.mark.parametrize("case", table_cases.CASES[2:6], ids=str)
def test_tables(case: table_cases.Case) -> None:
    inputs = table_cases.make_inputs(case, 1, "cpu")
    sizes = {"first": case.first, "index_topk": table_cases.TOPK, "page_size": table_cases.PAGE}
    want, got = table_cases.make_tables(case, "cpu"), table_cases.make_tables(case, "cuda")
    tables_ref.request_tables(want, *inputs, **sizes)
    request_tables(got, *(each.cuda() for each in inputs), **sizes)
    for part in dataclasses.fields(want):
        assert torch.equal(getattr(got, part.name).cpu(), getattr(want, part.name)), part.name


@pytest.mark.parametrize("case", head_cases.SMALL[1:], ids=str)
def test_heads(case: head_cases.Case) -> None:
    made = head_cases.make_inputs(case, seed=1, device="cpu")
    want = head_ref.head_linear(made.x, made.weight).float()
    got = head_linear(made.x.cuda(), made.weight.cuda()).cpu().float()
    torch.testing.assert_close(got, want, rtol=2**-7, atol=1e-5)


@pytest.mark.parametrize("case", router_cases.SMALL[1:], ids=str)
def test_router(case: router_cases.Case) -> None:
    made = router_cases.make_inputs(case, seed=1, device="cpu")
    want = router_ref.router(made.x, made.weight, made.bias, case.topk, renormalize=True)
    got = router(made.x.cuda(), made.weight.cuda(), made.bias.cuda(), case.topk, renormalize=True)
    assert torch.equal(got[1].cpu(), want[1]) and (got[0].cpu() - want[0]).abs().max() < 1e-5


@pytest.mark.parametrize(
    "case",
    [
        Attention(1, 100, "a cluster of 16 blocks, fewer slots than places", selection="ragged"),
        Attention(7, 3001, "a cluster of 8, places without a slot", selection="holes", heads=16),
        Attention(300, 3001, "blocks that have a token alone", topk=256),
    ],
    ids=str,
)
def test_attention(case: Attention) -> None:
    made = attention_cases.make_inputs(case, seed=1, device="cpu")
    want = attention_ref.sparse_mla(*made.tensors(), attention_cases.SCALE).float()
    got = sparse_mla(*(each.cuda() for each in made.tensors()), attention_cases.SCALE).cpu().float()
    assert ((got - want).norm(dim=2) <= 5e-3 * want.norm(dim=2)).all()


@pytest.mark.parametrize(
    "case",
    [
        Layers(3, "a rank of TP 8", num_positions=512),
        Layers(9, "other ranks", q_rank=256, kv_rank=1024, nope_dim=64, num_heads=3, num_padded_heads=4),
    ],
    ids=str,
)
def test_prologue(case: Layers) -> None:
    def run(operations: tuple[Callable, ...], device: str) -> list[torch.Tensor]:
        prologue, query, absorbed, index = operations
        inputs = move(made, device)
        make = prologue_cases.make_pool, prologue_cases.make_pages, prologue_cases.make_out
        pool, pages, out = (each(case, device) for each in make)
        q = prologue(*inputs.of_prologue(pool))
        query(*inputs.of_query(out))
        heads = absorbed(*inputs.of_absorbed(case.num_padded_heads))
        index_q, weights = index(*inputs.of_index(pages))
        return [each.cpu() for each in (q, out, heads, index_q, weights, pool, pages)]

    made = prologue_cases.make_inputs(case, seed=1, device="cpu")
    got = run((mla_prologue, mla_query, absorbed_query, index_prologue), "cuda")
    refs = (prologue_ref.mla_prologue, prologue_ref.mla_query, prologue_ref.absorbed_query, prologue_ref.index_prologue)
    for one, other in zip(got, run(refs, "cpu"), strict=True):
        wrong = one.contiguous().view(torch.uint8) != other.contiguous().view(torch.uint8)
        assert wrong.float().mean() < 0.01  # neighbours; test_mla_prologue.py tells them from other numbers


def move(inputs: prologue_cases.Inputs, device: str) -> prologue_cases.Inputs:
    return dataclasses.replace(
        inputs, **{field.name: getattr(inputs, field.name).to(device) for field in dataclasses.fields(inputs)}
    )

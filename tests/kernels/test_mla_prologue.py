"""The kernels against plain torch, and against the host's kernels to the bit.

Against the reference float32 sums come in another order and reciprocals may differ in the last bit. That moves a
result in some thousand across the middle of two bf16 or e4m3 numbers, to its neighbour, and rarely a scale by 2^-8. A
wrong weight, angle, scale or place changes nearly all numbers of a row. The host's kernels do the same as these, step
by step: results must be equal. Only sums of `absorbed_query` are in an order of their own: a float32 sum is off by
about 1e-6 of itself, which moves a result in a thousand to its neighbour in bf16; a row's largest by 2^-7 is 1.4e-3 of
its norm.
"""

from __future__ import annotations

import pytest
import torch

from sglang_glm52.kernels.mla_prologue import ref
from sglang_glm52.kernels.mla_prologue.bench import (
    host_attention,
    host_index,
    own_attention,
    own_index,
    turned_in_place,
)
from sglang_glm52.kernels.mla_prologue.cases import (
    CASES,
    PAGE,
    UNWRITTEN,
    Case,
    Inputs,
    make_inputs,
    make_out,
    make_pages,
    make_pool,
)
from sglang_glm52.kernels.mla_prologue.kernel import (
    INDEX_DIM,
    MAX_ABSORBED_TOKENS,
    ROPE,
    absorbed_query,
    index_prologue,
    mla_prologue,
    mla_query,
)

pytestmark = pytest.mark.gpu

MOVED = 5e-3  # of a tensor's numbers, to a neighbour
SCALE = 2.0**-7  # of a scale
SAME_ROUNDING = 5e-3  # norm of a row's difference over the norm of the row
GLM52 = [case for case in CASES if (case.q_rank, case.kv_rank) == (2048, 512) and 0 < case.num_tokens < 1000]
SMALL = CASES[4]


def bits(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous().view({1: torch.uint8, 2: torch.int16, 4: torch.int32}[x.element_size()])


def places(x: torch.Tensor) -> torch.Tensor:
    """Numbers as their places in the order of all numbers of their type, counted from zero."""
    sign = {1: 0x80, 2: 0x8000}[x.element_size()]
    code = bits(x).int() & (2 * sign - 1)
    return torch.where(code >= sign, sign - code, code)


def assert_neighbours(label: str, got: torch.Tensor, want: torch.Tensor) -> None:
    assert (got.shape, got.dtype) == (want.shape, want.dtype), label
    if got.numel():
        apart = (places(got) - places(want)).abs()
        share = (apart > 0).float().mean().item()
        assert apart.max() <= 1, f"{label}: {apart.max()} numbers apart, {share:.1e} differ"
        assert share < MOVED, f"{label}: {share:.1e} differ"


def assert_equal(label: str, got: torch.Tensor, want: torch.Tensor) -> None:
    assert (got.shape, got.dtype) == (want.shape, want.dtype), label
    wrong = bits(got) != bits(want)
    assert not wrong.any(), f"{label}: {wrong.sum()} of {wrong.numel()} differ, first at {wrong.nonzero()[0].tolist()}"


def assert_latents(case: Case, inputs: Inputs, got: torch.Tensor, want: torch.Tensor) -> None:
    """Slots of the tokens part by part, all others untouched."""
    others = torch.ones(case.num_slots, dtype=torch.bool, device=got.device)
    others[inputs.slots] = False
    assert (got[others] == UNWRITTEN).all()
    sizes = [case.kv_rank, case.kv_rank // 32, 2 * ROPE]
    of_got, of_want = (each[inputs.slots, 0].split(sizes, dim=1) for each in (got, want))
    scales = [part.contiguous().view(torch.float32) for part in (of_got[1], of_want[1])]
    torch.testing.assert_close(*scales, rtol=SCALE, atol=0)
    same = (scales[0] == scales[1]).repeat_interleave(128, 1)
    assert same.float().mean() > 0.95 or not case.num_tokens
    latents = [part.contiguous().view(torch.float8_e4m3fn)[same] for part in (of_got[0], of_want[0])]
    assert_neighbours("latent", *latents)
    assert_neighbours("rotary part", *(part.contiguous().view(torch.bfloat16) for part in (of_got[2], of_want[2])))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_latents_equal_the_reference(case: Case) -> None:
    inputs = make_inputs(case, seed=1, device="cuda")
    pool, want_pool = make_pool(case, "cuda"), make_pool(case, "cuda")
    q = mla_prologue(*inputs.of_prologue(pool))
    assert_neighbours("query latent", q, ref.mla_prologue(*inputs.of_prologue(want_pool)))
    assert_latents(case, inputs, pool, want_pool)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_queries_equal_the_reference(case: Case) -> None:
    """Also that what the product is to fill is left alone."""
    inputs = make_inputs(case, seed=2, device="cuda")
    out, want = make_out(case, "cuda"), make_out(case, "cuda")
    mla_query(*inputs.of_query(out))
    ref.mla_query(*inputs.of_query(want))
    assert_neighbours("rotary part", out[..., -ROPE:], want[..., -ROPE:])
    assert_equal("the rest", out[..., :-ROPE], want[..., :-ROPE])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_absorbed_queries_equal_the_reference(case: Case) -> None:
    inputs = make_inputs(case, seed=10, device="cuda")
    got = absorbed_query(*inputs.of_absorbed(case.num_padded_heads))
    want = ref.absorbed_query(*inputs.of_absorbed(case.num_padded_heads))
    assert_neighbours("rotary part", got[..., -ROPE:], want[..., -ROPE:])
    assert_equal("other heads", got[:, case.num_heads :], want[:, case.num_heads :])
    if case.num_tokens:
        got, want = (each[:, : case.num_heads, :-ROPE].float() for each in (got, want))
        assert ((got - want).norm(dim=2) / want.norm(dim=2)).max() < SAME_ROUNDING


@pytest.mark.parametrize("case", [CASES[0], CASES[12]], ids=str)
def test_one_hot_queries_return_the_weights(case: Case) -> None:
    """To the bit, and each at its place."""
    inputs = make_inputs(case, seed=11, device="cuda")
    hot = torch.eye(case.nope_dim, case.nope_dim + ROPE, device="cuda").bfloat16()
    q = hot.unsqueeze(1).repeat(1, case.num_heads, 1)
    for first in range(0, case.nope_dim, MAX_ABSORBED_TOKENS):
        rows = slice(first, first + MAX_ABSORBED_TOKENS)
        positions = inputs.positions[:1].repeat(len(q[rows]))
        out = absorbed_query(q[rows], inputs.w_kc, positions, inputs.cos_sin, case.num_padded_heads)
        assert_equal("weights", out[:, : case.num_heads, :-ROPE], inputs.w_kc[:, rows].transpose(0, 1))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_index_equals_the_reference(case: Case) -> None:
    inputs = make_inputs(case, seed=3, device="cuda")
    pages, want_pages = make_pages(case, "cuda"), make_pages(case, "cuda")
    got, want = index_prologue(*inputs.of_index(pages)), ref.index_prologue(*inputs.of_index(want_pages))
    assert_neighbours("queries", got[0], want[0])
    torch.testing.assert_close(got[1], want[1], rtol=1e-6, atol=0)
    parts = [each.split([PAGE * INDEX_DIM, PAGE * 4], dim=1) for each in (pages, want_pages)]
    untouched = [(part == UNWRITTEN) for part in (parts[0][1], parts[1][1])]
    assert torch.equal(*(each.unflatten(1, (PAGE, 4)).all(2) for each in untouched))
    assert_neighbours("keys", *(keys.view(torch.float8_e4m3fn) for keys, _ in parts))
    torch.testing.assert_close(*(scales.view(torch.float32) for _, scales in parts), rtol=SCALE, atol=0)


@pytest.mark.parametrize("case", GLM52, ids=str)
def test_attention_s_inputs_are_the_host_s(case: Case) -> None:
    pytest.importorskip("sglang")
    inputs = make_inputs(case, seed=4, device="cuda")
    pool, want_pool = make_pool(case, "cuda"), make_pool(case, "cuda")
    got = own_attention(inputs, pool, case.num_padded_heads)
    want = host_attention(turned_in_place(inputs), want_pool, case.num_padded_heads)
    assert_equal("query latent", got[0], want[0])
    assert_equal("queries", got[1], want[1])
    assert_equal("pool", pool, want_pool)


@pytest.mark.parametrize("case", GLM52, ids=str)
def test_the_indexer_s_inputs_are_the_host_s(case: Case) -> None:
    pytest.importorskip("sglang")
    inputs = make_inputs(case, seed=5, device="cuda")
    pages, want_pages = make_pages(case, "cuda"), make_pages(case, "cuda")
    got, want = own_index(inputs, pages), host_index(turned_in_place(inputs), want_pages)
    assert_equal("queries", got[0], want[0])
    assert_equal("head weights", got[1], want[1])
    assert_equal("pages", pages, want_pages)


def test_calls_wait_for_the_kernels_that_write_their_inputs() -> None:
    """A chain in which each call reads what the first one wrote, in a CUDA graph, with a new latent for each replay."""
    case = Case(16, "", num_index_heads=16)
    given = make_inputs(case, seed=100, device="cuda")
    pool, pages, out = make_pool(case, "cuda"), make_pages(case, "cuda"), make_out(case, "cuda")

    def chain(*, waits: bool) -> tuple[torch.Tensor, ...]:
        q = mla_prologue(*given.of_prologue(pool))
        if waits:
            torch.cuda.synchronize()
        index = index_prologue(q.view(given.index_q.shape), *given.of_index(pages)[1:])
        mla_query(q.view(given.q.shape), *given.of_query(out)[1:])
        absorbed = absorbed_query(q.view(given.q.shape), *given.of_absorbed(case.num_padded_heads)[1:])
        return *index, absorbed, out, pool, pages

    chain(waits=True)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = chain(waits=False)
    for seed in range(20):
        given.latent.copy_(make_inputs(case, seed=seed, device="cuda").latent)
        graph.replay()
        got = [bits(each).clone() for each in results]
        torch.cuda.synchronize()
        assert all(torch.equal(a, bits(b)) for a, b in zip(got, chain(waits=True), strict=True))


def test_equal_arguments_give_equal_bits() -> None:
    case = Case(7, "")
    inputs = make_inputs(case, seed=6, device="cuda")

    def call() -> list[torch.Tensor]:
        pool, pages = make_pool(case, "cuda"), make_pages(case, "cuda")
        absorbed = absorbed_query(*inputs.of_absorbed(case.num_padded_heads))
        results = *own_attention(inputs, pool, case.num_padded_heads), absorbed, *own_index(inputs, pages)
        return [bits(each) for each in (*results, pool, pages)]

    first = call()
    for _ in range(20):
        assert all(torch.equal(a, b) for a, b in zip(call(), first, strict=True))


@pytest.mark.parametrize(
    ("argument", "change", "words"),
    [
        (0, lambda x: x.float(), "latent is torch.float32"),
        (0, lambda x: x[:, 1:], r"latent is torch.bfloat16 \(7, 2623\); expected torch.bfloat16 \[7, 2624\]"),
        (0, lambda x: x.T.contiguous().T, "latent has strides"),
        (1, lambda x: x[:200], "weights of 200 and 512 numbers"),
        (2, lambda x: x.float(), "kv_weight is torch.float32"),
        (4, lambda x: x.int(), "positions is torch.int32"),
        (5, lambda x: x.cpu(), "cos_sin is on cpu"),
        (6, lambda x: x[1:], "slots is torch.int64"),
        (7, lambda x: x[..., 1:], "pool is torch.uint8"),
    ],
)
def test_other_arguments_of_the_prologue_are_refused(argument: int, change: object, words: str) -> None:
    inputs = make_inputs(SMALL, seed=7, device="cuda")
    given = list(inputs.of_prologue(make_pool(SMALL, "cuda")))
    given[argument] = change(given[argument])
    with pytest.raises(ValueError, match=words):
        mla_prologue(*given)


@pytest.mark.parametrize(
    ("argument", "change", "words"),
    [
        (0, lambda x: x[..., :63], "expected even ones, 64 of them to turn|q has strides"),
        (3, lambda x: x[:, :4].contiguous(), "out has 4 heads for 8"),
        (3, lambda x: x[:, :10].contiguous(), "out has 10 heads for 8; expected a multiple of 4"),
        (3, lambda x: x.transpose(0, 1), "out is torch.bfloat16"),
    ],
)
def test_other_arguments_of_the_query_are_refused(argument: int, change: object, words: str) -> None:
    inputs = make_inputs(SMALL, seed=8, device="cuda")
    given = list(inputs.of_query(make_out(SMALL, "cuda")))
    given[argument] = change(given[argument])
    with pytest.raises(ValueError, match=words):
        mla_query(*given)


@pytest.mark.parametrize(
    ("argument", "change", "words"),
    [
        (1, lambda x: x.contiguous(), "w_kc has strides"),
        (1, lambda x: x[:4], "w_kc is torch.bfloat16"),
        (1, lambda x: x.cpu(), "w_kc is on cpu"),
    ],
)
def test_other_arguments_of_the_absorbed_query_are_refused(argument: int, change: object, words: str) -> None:
    inputs = make_inputs(SMALL, seed=12, device="cuda")
    given = list(inputs.of_absorbed(SMALL.num_padded_heads))
    given[argument] = change(given[argument])
    with pytest.raises(ValueError, match=words):
        absorbed_query(*given)


@pytest.mark.parametrize(
    ("argument", "change", "words"),
    [
        (0, lambda x: x[:, :5], "q is torch.bfloat16"),
        (2, lambda x: x.half(), "gates is torch.float16"),
        (3, lambda x: x.bfloat16(), "norm_weight is torch.bfloat16"),
        (9, lambda x: x[:, 1:].contiguous(), "expected a multiple of 132"),
    ],
)
def test_other_arguments_of_the_indexer_are_refused(argument: int, change: object, words: str) -> None:
    inputs = make_inputs(SMALL, seed=9, device="cuda")
    given = list(inputs.of_index(make_pages(SMALL, "cuda")))
    given[argument] = change(given[argument])
    with pytest.raises(ValueError, match=words):
        index_prologue(*given)

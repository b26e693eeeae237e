"""The grouped path of int4 experts against plain torch, and its steps one by one.

Both sides round the same sums to bf16 and then to FP8, but a tensor core adds up the FP8 products of a group with some
14 bits: a sum is off by 4e-4 of its size, and one in eight inner activations lands on the next bf16. Where that is a
row's largest, its scale moves by 0.4 %, and one value in fifteen crosses an edge of e4m3, whose steps are 6 to 12 %:
such a row differs by 2 to 3 %. BOUND leaves twice that. Most rows differ by their bf16 roundings, 0.3 %, and few flips:
MEAN. A row's projection on the expected one averages the flips of some 100 values that count; a scale or a router
weight that is applied wrongly moves it.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
import triton
import triton.language as tl
from triton_interpreter import IS_INTERPRETED

from sglang_glm52.formats.int4_group import pack_int4, unpack_int4
from sglang_glm52.kernels.int4_experts import cases, grouped, grouped_gate_up, ref
from sglang_glm52.kernels.int4_experts.cases import Case, Inputs, make_inputs, make_weights
from sglang_glm52.kernels.int4_experts.grouped_gemm import decode
from sglang_glm52.kernels.int4_experts.grouped_order import order_slots
from sglang_glm52.kernels.int4_experts.grouped_quantize import Fp8Rows, quantize_rows
from sglang_glm52.kernels.int4_experts.weights import ExpertWeights, StaticScales

pytestmark = pytest.mark.gpu
needs_gpu = pytest.mark.skipif(IS_INTERPRETED, reason="about the GPU itself, or slow in the interpreter")

BOUND = 0.05  # of the norm of a row's difference over the norm of the row
MEAN = 0.008  # of that, over 30 rows or more
LEAN = 0.015  # of the projection's distance from 1

OWN = (
    Case(5, 256, 1024, 4, 2, "more groups of inner than are held in shared memory"),
    Case(9, 256, 128, 4, 2, "half of the experts on another rank", total_experts=8),
    Case(9, 256, 128, 4, 2, "static scales, some values saturated", is_static=True),
)
COMPARED = [
    pytest.param(
        case, id=str(case), marks=() if case.hidden <= 1024 and case.num_tokens * case.hidden <= 6000 else needs_gpu
    )
    for case in (*cases.CASES, *OWN)
]
# For the first product in CUDA C++, whatever the number of tokens.
FORCED = (
    *(case for case in cases.SMALL if case.hidden in (640, 1024) and case.inner == 256),
    Case(1500, 640, 512, 3, 2, "experts with many tiles"),
    Case(90, 640, 384, 8, 2, "an odd number of groups of both sides"),
)
GATE_UP = [pytest.param(None, id="triton"), pytest.param(160, id="cuda", marks=needs_gpu)]  # places in a tile


def run(weights: ExpertWeights, inputs: Inputs, gate_up_places: int | None = None) -> torch.Tensor:
    """With `gate_up_places` the first product is CUDA C++ for any number of tokens."""
    if gate_up_places is None:
        return grouped.int4_experts_grouped(**arguments(weights, inputs))
    tiling = grouped.tiling_for(inputs.x.shape[0])
    return grouped.run_grouped(**arguments(weights, inputs), tiling=tiling, gate_up_places=gate_up_places)


def arguments(weights: ExpertWeights, inputs: Inputs) -> dict[str, object]:
    return {"weights": weights, **{field.name: getattr(inputs, field.name) for field in dataclasses.fields(inputs)}}


def assert_close(got: torch.Tensor, weights: ExpertWeights, inputs: Inputs) -> None:
    want = ref.int4_experts(**arguments(weights, inputs))
    assert (got.shape, got.dtype) == (want.shape, want.dtype) and got.isfinite().all()
    got, want = got.float(), want.float()
    assert not got[want.norm(dim=1) == 0].any()
    difference = ((got - want).norm(dim=1) / want.norm(dim=1)).nan_to_num()  # 0 / 0 where no expert is here
    lean = ((got * want).sum(dim=1) / want.square().sum(dim=1) - 1.0).nan_to_num().abs()
    if len(got):
        print(f"rows differ by {difference.mean():.1e}, at most {difference.max():.1e}; lean at most {lean.max():.1e}")
        assert difference.max() < BOUND and lean.max() < LEAN
        assert difference.mean() < MEAN or len(got) < 30


@pytest.mark.parametrize("case", COMPARED)
def test_equals_the_reference(case: Case, triton_device: str) -> None:
    weights = make_weights(case, seed=1, device=triton_device)
    inputs = make_inputs(case, seed=2, device=triton_device)
    assert_close(run(weights, inputs), weights, inputs)


@needs_gpu
@pytest.mark.parametrize("places", sorted(set(grouped_gate_up.PLACES.values())))
@pytest.mark.parametrize("case", FORCED, ids=str)
def test_the_first_product_in_cuda_equals_the_reference(case: Case, places: int, triton_device: str) -> None:
    weights = make_weights(case, seed=1, device=triton_device)
    inputs = make_inputs(case, seed=2, device=triton_device)
    got = run(weights, inputs, places)
    assert_close(got, weights, inputs)
    assert all(torch.equal(run(weights, inputs, places), got) for _ in range(5))


@pytest.mark.parametrize("gate_up_places", GATE_UP)
def test_one_large_input_costs_the_others_no_precision(gate_up_places: int | None, triton_device: str) -> None:
    """Weights are multiplied with an offset that is subtracted again: the larger an input, the larger both."""
    case = Case(4, 256, 128, 4, 2, "")
    weights = make_weights(case, seed=1, device=triton_device)
    inputs = make_inputs(case, seed=2, device=triton_device)
    inputs.x[:, 77] = 100.0
    assert_close(run(weights, inputs, gate_up_places), weights, inputs)


@pytest.mark.parametrize("tiling", grouped.TILINGS.values(), ids=lambda tiling: f"{tiling.places} places")
def test_no_result_depends_on_the_tiling(tiling: grouped.Tiling, triton_device: str) -> None:
    case = Case(35, 640, 256, 2, 2, "two experts with more places than a tile, parts of unequal size")
    weights = make_weights(case, seed=1, device=triton_device)
    inputs = make_inputs(case, seed=2, device=triton_device)
    columns = 256  # of 640
    tiling = dataclasses.replace(tiling, part_bytes=2 * columns * inputs.topk_ids.numel())
    got = grouped.run_grouped(**arguments(weights, inputs), tiling=tiling)
    assert_close(got, weights, inputs)
    if not IS_INTERPRETED:  # which adds in an order that depends on shapes
        assert torch.equal(got, run(weights, inputs))


HIDDEN, INNER = 256, 128


def one_hot_call(
    w13: torch.Tensor, scale13: torch.Tensor, w2: torch.Tensor, scale2: torch.Tensor, gate_up_places: int | None = None
) -> torch.Tensor:
    """Row k: the output for an x of zeros but for x[k] = 1, of one expert given as int8 matrices and their scales."""
    weights = ExpertWeights(
        pack_int4(w13)[None],
        scale13.expand(2 * INNER, HIDDEN // 128).T.bfloat16().contiguous()[None],
        pack_int4(w2)[None],
        scale2.expand(HIDDEN, INNER // 128).T.bfloat16().contiguous()[None],
    )
    one = torch.ones(1, device=w13.device)
    ones = torch.ones(HIDDEN, 1, device=w13.device)
    x = torch.eye(HIDDEN, device=w13.device).bfloat16()
    static = StaticScales(one, one)
    inputs = Inputs(x, ones, torch.zeros_like(ones, dtype=torch.int32), 1.0, static)
    return run(weights, inputs, gate_up_places).float()


def all_nibbles(rows: int, cols: int, device: str) -> torch.Tensor:
    """Every row holds all values of [-8, 7] in another order; int8."""
    packed = torch.randint(
        -128, 128, (rows, cols // 2), generator=torch.Generator().manual_seed(rows), dtype=torch.int8
    )
    return unpack_int4(packed).to(device)


def column_of(rows: int, values: list[float], device: str) -> torch.Tensor:
    """[rows, 1] float32 that repeats `values`."""
    return torch.tensor(values, device=device).repeat(rows // len(values))[:, None]


@pytest.mark.parametrize("gate_up_places", GATE_UP)
def test_every_up_weight_is_exact(gate_up_places: int | None, triton_device: str) -> None:
    up = all_nibbles(INNER, HIDDEN, triton_device)
    gate = torch.full_like(up, 4)  # times scale 8: silu(32) is 32 in float32, so h = 32 * up, which FP8 holds
    scale = column_of(INNER, [1.0, -0.5, 0.25, -1.0], triton_device)
    pick = torch.eye(HIDDEN, INNER, device=triton_device, dtype=torch.int8)
    out = one_hot_call(
        torch.cat([gate, up]),
        torch.cat([torch.full_like(scale, 8.0), scale]),
        pick,
        torch.full_like(scale[:1], 1 / 32),
        gate_up_places,
    )
    assert torch.equal(out[:, :INNER], (up * scale).T) and not out[:, INNER:].any()


@pytest.mark.parametrize("gate_up_places", GATE_UP)
@pytest.mark.parametrize("sign", [1, -1])
def test_every_gate_weight_is_exact(sign: int, gate_up_places: int | None, triton_device: str) -> None:
    gate = all_nibbles(INNER, HIDDEN, triton_device)
    up = torch.ones_like(gate)
    scale = column_of(INNER, [64.0 * sign], triton_device)  # silu(64 v) is 64 v or nearly 0; 512 saturates at 448
    pick = torch.eye(HIDDEN, INNER, device=triton_device, dtype=torch.int8)
    out = one_hot_call(
        torch.cat([gate, up]),
        torch.cat([scale, torch.ones_like(scale)]),
        pick,
        torch.full_like(scale[:1], 1 / 64),
        gate_up_places,
    )
    assert torch.equal(out[:, :INNER], (gate.float() * sign).clamp(0, 7).T)


def test_every_down_weight_is_exact(triton_device: str) -> None:
    gate = torch.full((INNER, HIDDEN), 4, dtype=torch.int8, device=triton_device)
    up = torch.eye(INNER, HIDDEN, dtype=torch.int8, device=triton_device)  # h = 32 where input and column are the same
    scale = column_of(2 * INNER, [8.0, 1.0], triton_device).sort(dim=0, descending=True).values
    down = all_nibbles(HIDDEN, INNER, triton_device)
    down_scale = column_of(HIDDEN, [1.0, -0.5, 0.25, -2.0], triton_device)
    out = one_hot_call(torch.cat([gate, up]), scale, down, down_scale)
    assert torch.equal(out[:INNER], 32 * (down * down_scale).T) and not out[INNER:].any()


@triton.jit
def _decode_all(packed_ptr, out_ptr, USE_PTX: tl.constexpr):
    row, byte, column = tl.arange(0, 64)[:, None], tl.arange(0, 64)[None, :], tl.arange(0, 128)[None, :]
    tl.store(out_ptr + row * 128 + column, decode(tl.load(packed_ptr + row * 64 + byte), USE_PTX))


@pytest.mark.parametrize("use_ptx", [pytest.param(True, marks=needs_gpu), False])
def test_a_nibble_becomes_its_value_plus_8_over_512(use_ptx: bool, triton_device: str) -> None:
    packed = torch.arange(64 * 64, device=triton_device).to(torch.int8).view(64, 64)
    out = torch.empty(64, 128, device=triton_device, dtype=torch.float8_e4m3fn)
    _decode_all[(1,)](packed, out, use_ptx)
    low, high = unpack_int4(packed).float().unflatten(1, (64, 2)).unbind(2)
    assert torch.equal(out.float(), (torch.cat([low, high], dim=1) + 8) / 512)


@pytest.mark.parametrize("cols", [128, 640, 1024])
@pytest.mark.parametrize("is_static", [False, True], ids=["dynamic", "static"])
def test_rows_are_rounded_as_in_the_reference(cols: int, is_static: bool, triton_device: str) -> None:
    generator = torch.Generator(triton_device).manual_seed(cols)
    x = torch.randn(37, cols, generator=generator, device=triton_device)
    x *= 10.0 ** torch.arange(-18, 19, device=triton_device)[:, None]
    x[5] = 0.0
    x = x.bfloat16()
    static = torch.tensor([1e-3], device=triton_device) if is_static else None
    got = Fp8Rows(*(each.cpu() for each in quantize_rows(x, static=static)))
    want, scale = ref.quantize_rows(x.cpu(), static.cpu() if is_static else None)  # a GPU may divide less exactly
    assert torch.equal(got.scale, scale[:, 0])
    even_first = want.unflatten(1, (-1, 64, 2)).transpose(2, 3)  # [37, groups, 2, 64]
    assert torch.equal(got.values.float(), even_first.flatten(1))
    groups = cols // 128
    coarse, fine, rest = got.bias.float().tensor_split([groups, 2 * groups], dim=1)
    sums = even_first.double().sum((2, 3))
    assert ((coarse + fine + sums / 64).abs() <= sums.abs() * 2**-22).all() and not rest.any()


def test_rows_behind_the_last_are_left_alone(triton_device: str) -> None:
    x = torch.ones(40, 256, device=triton_device).bfloat16()
    got = quantize_rows(x, num_rows=torch.tensor([0], dtype=torch.int32, device=triton_device))
    before = got.scale.fill_(-1.0).clone()
    filled = quantize_rows(x, num_rows=torch.tensor([11], dtype=torch.int32, device=triton_device))
    assert torch.equal(got.scale, before)
    assert torch.equal(filled.scale[:11], torch.ones_like(before[:11]) / 448)


@pytest.mark.parametrize("tile", [16, 64])
@pytest.mark.parametrize("routing", cases.ROUTINGS)
@pytest.mark.parametrize("num_tokens", [1, 1500, 2999])  # up to 2048 have few slots
def test_slots_are_ordered_by_expert(num_tokens: int, routing: str, tile: int, triton_device: str) -> None:
    case = Case(num_tokens, HIDDEN, INNER, 6, 2, "", routing=routing, total_experts=9)
    ids = make_inputs(case, seed=3, device=triton_device).topk_ids
    order = order_slots(ids, case.num_experts, tile)
    count = int(order.num_places)
    slots = order.slot_of_place[:count].tolist()
    want = sorted((e, slot) for slot, e in enumerate(ids.flatten().tolist()) if e >= 0)
    assert slots == [slot for _, slot in want]
    covered = []
    for expert, first, end in order.tiles.T.tolist():
        places = range(first, min(first + tile, end))
        assert all(want[place][0] == expert for place in places)
        covered += places
    assert covered == list(range(count))
    starts = [sum(owner < expert for owner, _ in want) for expert in range(case.num_experts + 1)]
    assert order.starts.tolist() == starts


def test_no_token_is_no_launch(triton_device: str) -> None:
    case = Case(0, HIDDEN, INNER, 2, 2, "")
    weights = make_weights(case, seed=1, device=triton_device)
    assert run(weights, make_inputs(case, seed=1, device=triton_device)).shape == (0, HIDDEN)


REFUSED = {
    "x is torch.float32": lambda i: {"x": i.x.float()},
    "x has strides": lambda i: {"x": i.x.repeat(1, 2)[:, ::2]},
    "topk_ids is torch.int64": lambda i: {"topk_ids": i.topk_ids.long()},
    "topk_weights has strides": lambda i: {"topk_weights": i.topk_weights.T.contiguous().T},
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_wrong_argument_is_refused_by_name(message: str, triton_device: str) -> None:
    case = Case(5, HIDDEN, INNER, 2, 2, "")
    weights, inputs = make_weights(case, seed=1, device=triton_device), make_inputs(case, seed=1, device=triton_device)
    with pytest.raises(ValueError, match=f"^{message}"):
        run(weights, dataclasses.replace(inputs, **REFUSED[message](inputs)))


@needs_gpu
@pytest.mark.parametrize("num_tokens", [70, 600, 2000])
def test_repeats_are_bit_equal(num_tokens: int, triton_device: str) -> None:
    case = Case(num_tokens, 1024, 256, 16, 4, "")
    weights = make_weights(case, seed=1, device=triton_device)
    inputs = make_inputs(case, seed=2, device=triton_device)
    first = run(weights, inputs)
    assert all(torch.equal(run(weights, inputs), first) for _ in range(50))


@needs_gpu
def test_a_cuda_graph_replays_with_other_data(triton_device: str) -> None:
    case = Case(200, 1024, 256, 16, 4, "")
    weights = make_weights(case, seed=1, device=triton_device)
    held, others = (make_inputs(case, seed=seed, device=triton_device) for seed in (2, 3))
    run(weights, held)  # compiled before the capture
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = run(weights, held)
    for name in ("x", "topk_weights", "topk_ids"):
        getattr(held, name).copy_(getattr(others, name))
    graph.replay()
    assert torch.equal(out, run(weights, others))

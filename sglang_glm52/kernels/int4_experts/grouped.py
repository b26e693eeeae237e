"""int4 experts for many tokens: slots sorted by expert, two grouped FP8 products. Hopper.

All kernels are Triton's, but for the first product where there are many tokens (`grouped_gate_up.py`).
x is rounded once a token and gathered by the first product; h, and the FP8 rows made from it, lie in the order of the
experts; the second product writes one bf16 row a slot, which are then added in slot order. That many rows do not fit
into the L2 cache, so the last two steps take turns on a part of the columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton

from sglang_glm52.formats.int4_group import GROUP
from sglang_glm52.kernels.int4_experts import grouped_gate_up
from sglang_glm52.kernels.int4_experts.grouped_combine import combine
from sglang_glm52.kernels.int4_experts.grouped_gemm import down, gate_up
from sglang_glm52.kernels.int4_experts.grouped_order import Order, order_slots
from sglang_glm52.kernels.int4_experts.grouped_quantize import Fp8Rows, quantize_rows
from sglang_glm52.kernels.int4_experts.kernel import check_inputs
from sglang_glm52.kernels.int4_experts.weights import ExpertWeights, StaticScales

HELD_GROUPS = 4  # of h that fit into shared memory beside the weights


@dataclass(frozen=True, slots=True)
class Tiling:
    """How the products are cut; no result depends on it."""

    places: int  # of one expert in a tile
    gate_up_rows: int  # of w13 in a tile, half of them gate rows
    gate_up_warps: int
    gate_up_unroll: int  # groups of 128 inputs that are loaded together
    gate_up_stages: int
    down_rows: int  # of w2 in a tile; divides 128
    down_warps: int
    down_stages: int
    down_blocks: int  # of down_rows rows that a program computes at most
    part_bytes: int  # of the slots' rows that are in memory together


PART_BYTES = 384 << 20  # the rows of 4096 tokens of GLM-5.2; half of it makes them 6 % slower, and 8192 2 %
# Smallest number of tokens -> tiling; fastest for GLM-5.2 under TP 8 on H200, where an expert has a 32nd of the tokens.
TILINGS = {
    0: Tiling(16, 128, 4, 4, 3, 128, 4, 3, 8, PART_BYTES),
    448: Tiling(32, 128, 4, 2, 4, 128, 4, 3, 16, PART_BYTES),
    1152: Tiling(64, 128, 8, 1, 4, 64, 4, 4, 32, PART_BYTES),
}


def tiling_for(num_tokens: int) -> Tiling:
    return TILINGS[max(start for start in TILINGS if start <= num_tokens)]


def int4_experts_grouped(
    x: torch.Tensor,
    *,
    weights: ExpertWeights,
    topk_weights: torch.Tensor,
    topk_ids: torch.Tensor,
    factor: float,
    static: StaticScales | None = None,
) -> torch.Tensor:
    """`int4_experts` for many tokens; arguments, result and errors are described there."""
    check_inputs(x, weights, topk_weights, topk_ids, static)
    # Triton's interpreter, with which the rest runs on a CPU, knows nothing of CUDA C++.
    places = None if triton.knobs.runtime.interpret else grouped_gate_up.places_for(x.shape[0], weights.inner)
    return run_grouped(x, weights, topk_weights, topk_ids, factor, static, tiling_for(x.shape[0]), places)


def run_grouped(
    x: torch.Tensor,
    weights: ExpertWeights,
    topk_weights: torch.Tensor,
    topk_ids: torch.Tensor,
    factor: float,
    static: StaticScales | None,
    tiling: Tiling,
    gate_up_places: int | None = None,
) -> torch.Tensor:
    """The same with the tiling given and nothing checked; with `gate_up_places` the first product is CUDA C++."""
    out = torch.empty_like(x)
    if out.numel() == 0:
        return out
    order = order_slots(topk_ids, weights.num_experts, tiling.places)
    tokens = quantize_rows(x, static=static.x if static else None)
    if gate_up_places is None:
        h = _gate_up(tokens, weights, order, topk_ids.shape[1], tiling)
    else:
        h = grouped_gate_up.gate_up(tokens, weights, order, topk_ids.shape[1], gate_up_places)
    rows = quantize_rows(h, static=static.h if static else None, num_rows=order.num_places)

    part_columns = _columns_a_part(weights.hidden, topk_ids.numel(), tiling.part_bytes)
    part = x.new_empty(topk_ids.numel() * part_columns)
    for first in range(0, weights.hidden, part_columns):
        columns = min(part_columns, weights.hidden - first)
        _down(rows, weights, order, part, first, columns, tiling)
        combine(part, topk_weights, topk_ids, factor, out, first, columns)
    return out


def _columns_a_part(hidden: int, num_slots: int, part_bytes: int) -> int:
    """A multiple of 128; bf16 rows of all slots take at most `part_bytes`, if 128 columns do, in parts about equal."""
    blocks = hidden // GROUP
    num_parts = triton.cdiv(blocks, max(1, part_bytes // (2 * GROUP * num_slots)))
    return triton.cdiv(blocks, num_parts) * GROUP


def _gate_up(tokens: Fp8Rows, weights: ExpertWeights, order: Order, topk: int, tiling: Tiling) -> torch.Tensor:
    """silu(gate) * up, [num_slots, inner] bf16 in the order of the places."""
    num_tiles = order.tiles.shape[1]
    h = tokens.values.new_empty(order.slot_of_place.numel(), weights.inner, dtype=torch.bfloat16)
    gate_up[(num_tiles * 2 * weights.inner // tiling.gate_up_rows,)](
        *tokens,
        weights.w13,
        weights.scale13,
        order.slot_of_place,
        order.tiles,
        num_tiles,
        h,
        HIDDEN=weights.hidden,
        INNER=weights.inner,
        TOPK=topk,
        BIAS=tokens.bias.shape[1],
        BN=tiling.gate_up_rows,
        BM=tiling.places,
        UNROLL=_unroll(weights.hidden, tiling.gate_up_unroll),
        STAGES=tiling.gate_up_stages,
        USE_PTX=not triton.knobs.runtime.interpret,
        num_warps=tiling.gate_up_warps,
    )
    return h


def _down(
    rows: Fp8Rows,
    weights: ExpertWeights,
    order: Order,
    part: torch.Tensor,
    first_column: int,
    num_columns: int,
    tiling: Tiling,
) -> None:
    """Write some columns of w2 @ h into `part`, [num_slots, num_columns] bf16."""
    num_tiles = order.tiles.shape[1]
    num_blocks = num_columns // tiling.down_rows
    blocks = min(tiling.down_blocks, num_blocks)
    down[(num_tiles * triton.cdiv(num_blocks, blocks),)](
        *rows,
        weights.w2,
        weights.scale2,
        order.slot_of_place,
        order.tiles,
        num_tiles,
        part,
        first_column // tiling.down_rows,
        num_blocks,
        blocks,
        HIDDEN=weights.hidden,
        INNER=weights.inner,
        BIAS=rows.bias.shape[1],
        BN=tiling.down_rows,
        BM=tiling.places,
        HELD_GROUPS=HELD_GROUPS,
        UNROLL=_unroll(weights.inner, 2),
        STAGES=tiling.down_stages,
        USE_PTX=not triton.knobs.runtime.interpret,
        num_warps=tiling.down_warps,
    )


def _unroll(cols: int, wanted: int) -> int:
    """Groups a step: as wanted where that divides their number, else 1."""
    return wanted if cols // 128 % wanted == 0 else 1

"""bf16 rows -> FP8 in the order in which the grouped GEMMs read them. Triton.

Inside each 128 columns the even ones come first: byte b of a packed weight group holds inputs 2b and 2b + 1, so all low
nibbles meet the first 64 values and all high nibbles the last 64.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from sglang_glm52.formats.fp8_block import E4M3_MAX
from sglang_glm52.formats.int4_group import GROUP

PAIRS = 2048  # pairs of values that a program holds at least
SMALLEST_SCALE = 2.0**-126  # rows of smaller values become zeros; the reciprocal of a smaller scale might overflow
MIN_BIAS = 16  # the fewest columns a bf16 product reads


class Fp8Rows(NamedTuple):
    """x ~ values * scale. `bias` is what the GEMMs add for weights that are stored with an offset, see there."""

    values: torch.Tensor  # [rows, cols] float8_e4m3fn, even columns of each 128 first
    scale: torch.Tensor  # [rows] float32
    bias: torch.Tensor  # [rows, bias_columns(cols)] bf16: -(sum of a group's values) / 64 as the sum of two, see there


def bias_columns(cols: int) -> int:
    """The larger parts of all groups, then the smaller parts of all, then zeros up to what a product can read."""
    return max(MIN_BIAS, triton.next_power_of_2(2 * cols // GROUP))


def quantize_rows(
    x: torch.Tensor, *, static: torch.Tensor | None = None, num_rows: torch.Tensor | None = None
) -> Fp8Rows:
    """Divide by the scale and round to e4m3; beyond 448 saturate.

    Args:
        x: [rows, cols] bf16, contiguous, cols a multiple of 128.
        static: one float32, the scale of all rows; without it each row's largest absolute value / 448, 1 for zeros.
        num_rows: [1] int32: only so many rows are read and written; without it all.
    """
    rows, cols = x.shape
    values = torch.empty_like(x, dtype=torch.float8_e4m3fn)
    scale = x.new_empty(rows, dtype=torch.float32)
    bias = x.new_empty(rows, bias_columns(cols))
    groups = triton.next_power_of_2(cols // GROUP)
    rows_a_program = max(1, PAIRS // (groups * GROUP // 2))
    _quantize_rows[(triton.cdiv(rows, rows_a_program),)](
        x,
        values,
        scale,
        bias,
        static,
        num_rows,
        rows,
        COLS=cols,
        ROWS=rows_a_program,
        GROUPS=groups,
        BIAS=bias.shape[1],
        E4M3_MAX=E4M3_MAX,
        SMALLEST_SCALE=SMALLEST_SCALE,
        num_warps=8,
    )
    return Fp8Rows(values, scale, bias)


@triton.jit(do_not_specialize=["num_rows"])
def _quantize_rows(
    x_ptr,
    values_ptr,
    scale_ptr,
    bias_ptr,
    static_ptr,
    num_rows_ptr,
    num_rows,
    COLS: tl.constexpr,
    ROWS: tl.constexpr,
    GROUPS: tl.constexpr,
    BIAS: tl.constexpr,
    E4M3_MAX: tl.constexpr,
    SMALLEST_SCALE: tl.constexpr,
):
    if num_rows_ptr is not None:
        num_rows = tl.load(num_rows_ptr)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    if tl.program_id(0) * ROWS >= num_rows:
        return
    group = tl.arange(0, GROUPS)
    pair = tl.arange(0, 64)
    in_row = (row < num_rows)[:, None]
    in_tile = in_row[:, :, None] & (group < COLS // 128)[None, :, None] & (pair < 64)[None, None, :]
    pairs = group[None, :, None] * 64 + pair[None, None, :]
    x_ptr = x_ptr.to(tl.pointer_type(tl.int32))  # two bf16 a word
    words = tl.load(x_ptr + row[:, None, None] * (COLS // 2) + pairs, mask=in_tile, other=0)
    even = (words << 16).to(tl.float32, bitcast=True)  # a bf16 is the upper half of the float32 of the same value
    odd = (words & -65536).to(tl.float32, bitcast=True)
    if static_ptr is not None:
        scale = tl.zeros((ROWS,), tl.float32) + tl.load(static_ptr)
    else:
        largest = tl.max(tl.max(tl.maximum(tl.abs(even), tl.abs(odd)), axis=2), axis=1)
        scale = tl.math.div_rn(largest, tl.full((ROWS,), E4M3_MAX, tl.float32))
        scale = tl.where(scale >= SMALLEST_SCALE, scale, 1.0)
    tl.store(scale_ptr + row, scale, mask=row < num_rows)

    even, odd = _divide(even, scale).to(tl.float8e4nv), _divide(odd, scale).to(tl.float8e4nv)  # these saturate
    columns = group[None, :, None] * 128 + pair[None, None, :]
    to = values_ptr + row[:, None, None] * COLS + columns
    tl.store(to, even, mask=in_tile)
    tl.store(to + 64, odd, mask=in_tile)

    bias = tl.sum(even.to(tl.float32) + odd.to(tl.float32), axis=2) * (-1 / 64)
    coarse = bias.to(tl.bfloat16)
    fine = (bias - coarse.to(tl.float32)).to(tl.bfloat16)
    to = bias_ptr + row[:, None] * BIAS + group[None, :]
    is_group = in_row & (group < COLS // 128)[None, :]
    tl.store(to, coarse, mask=is_group)
    tl.store(to + COLS // 128, fine, mask=is_group)
    column = tl.arange(0, BIAS)
    is_rest = in_row & (column >= 2 * (COLS // 128))[None, :]
    tl.store(bias_ptr + row[:, None] * BIAS + column[None, :], 0.0, mask=is_rest)


@triton.jit
def _divide(x, scale):
    """[ROWS, GROUPS, 64] / [ROWS] float32, rounded as by a division: its remainder corrects x times the reciprocal."""
    inv_scale = tl.broadcast_to(tl.math.div_rn(tl.full(scale.shape, 1.0, tl.float32), scale)[:, None, None], x.shape)
    scale = tl.broadcast_to(scale[:, None, None], x.shape)
    q = x * inv_scale
    return tl.math.fma(tl.math.fma(-q, scale, x), inv_scale, q)

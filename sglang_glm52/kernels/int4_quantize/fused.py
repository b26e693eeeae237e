"""A slab to int4 in one kernel. Triton.

A program holds some groups in registers, dequantises them if they are FP8, tries every scale, and writes the chosen
one's result and its share of the sums. All arithmetic is that of formats/int4_group.py, operation by operation.
"""

from __future__ import annotations

from threading import Lock

import torch
import triton
import triton.language as tl

from sglang_glm52.formats.int4_group import (
    GROUP,
    INT4_MAX,
    INT4_MIN,
    LARGEST_SCALE,
    SHRINK,
    SMALLEST_SCALE,
)
from sglang_glm52.kernels.int4_quantize.slab import NUM_SUMS, Int4Slab, check_slab

GROUPS = 16  # of one program
# As what a dtype is read. Triton has e4m3 on some GPUs only; its interpreter misreads e4m3's NaN and bf16's denormals.
_READ_AS = {
    torch.float8_e4m3fn: torch.uint8,
    torch.bfloat16: torch.int16,
    torch.float16: torch.float16,
    torch.float32: torch.float32,
}
_launching = Lock()  # else every worker would compile the kernel at its first launch


def int4_quantize_fused(
    weight: torch.Tensor, *, block_scale: torch.Tensor | None = None, method: str = "mse"
) -> Int4Slab:
    """See `kernel.py`."""
    check_slab(weight, block_scale, method)
    if weight.dtype not in _READ_AS:
        raise ValueError(f"weight is {weight.dtype}; expected one of {', '.join(map(str, _READ_AS))}")
    for name, tensor in (("weight", weight), ("block_scale", block_scale)):
        if tensor is not None and not tensor.is_contiguous():
            raise ValueError(f"{name} has strides {tensor.stride()}; expected it contiguous, {tuple(tensor.shape)}")
    rows, cols = weight.shape
    packed = weight.new_empty(rows, cols // 2, dtype=torch.int8)
    scale = weight.new_empty(rows, cols // GROUP, dtype=torch.bfloat16)
    num_groups = scale.numel()
    num_programs = triton.cdiv(num_groups, GROUPS)
    partial = weight.new_empty(NUM_SUMS, num_programs, dtype=torch.float64)
    if num_groups:
        with torch.cuda.device_of(weight), _launching:
            _quantize[(num_programs,)](
                weight.view(_READ_AS[weight.dtype]),
                block_scale,
                packed,
                scale,
                partial,
                num_groups,
                cols // GROUP,
                SHRINK=SHRINK,
                KEEP_MSE=method == "mse",
                GROUPS=GROUPS,
                num_warps=4,
                enable_fp_fusion=False,  # a fused product rounds once where torch rounds twice
            )
    return Int4Slab(packed, scale, partial.sum(1))


_GROUP = tl.constexpr(GROUP)
_MIN, _MAX = tl.constexpr(float(INT4_MIN)), tl.constexpr(float(INT4_MAX))
_SMALLEST, _LARGEST = tl.constexpr(SMALLEST_SCALE), tl.constexpr(LARGEST_SCALE)
_E4M3_NAN = tl.constexpr(0x7F)
_E4M3_UNIT = tl.constexpr(2.0**120)  # makes up for the exponents' bias, 7 in e4m3 and 127 in float32
_TO_INTEGER = tl.constexpr(1.5 * 2.0**23)  # above it float32 has no fraction: adding it rounds, half to even


@triton.jit(do_not_specialize=["num_groups", "groups_a_row"])  # one compilation for all shapes
def _quantize(
    weight_ptr,
    block_scale_ptr,
    packed_ptr,
    scale_ptr,
    partial_ptr,  # [NUM_SUMS, programs]
    num_groups,
    groups_a_row,
    SHRINK: tl.constexpr,
    KEEP_MSE: tl.constexpr,
    GROUPS: tl.constexpr,
):
    group = tl.program_id(0) * GROUPS + tl.arange(0, GROUPS)
    is_group = group < num_groups
    first_value = group.to(tl.int64) * _GROUP
    values = first_value[:, None] + tl.arange(0, _GROUP)[None, :]
    w = _decode(tl.load(weight_ptr + values, mask=is_group[:, None], other=0))  # [GROUPS, 128] float32
    if block_scale_ptr is not None:
        block = group // groups_a_row // _GROUP * groups_a_row + group % groups_a_row
        w *= tl.load(block_scale_ptr + block, mask=is_group, other=0.0)[:, None]

    above, below = tl.max(w, axis=1), tl.max(-w, axis=1)
    # `div_rn` is true division; what `/` gives in Triton is off by a bit now and then.
    positive = tl.maximum(tl.div_rn(above, _MAX), tl.div_rn(below, -_MIN))
    negative = tl.minimum(tl.div_rn(below, -_MAX), tl.div_rn(above, _MIN))
    tightest = tl.where(above > below, negative, positive)

    rtn = _round_scale(positive)
    mse = rtn
    least = _squared_steps(w, rtn)
    for i in tl.static_range(len(SHRINK)):
        tried = _round_scale(tightest * SHRINK[i])
        in_first_steps = tl.div_rn(tried, rtn)
        error = _squared_steps(w, tried) * (in_first_steps * in_first_steps)
        mse = tl.where(error < least, tried, mse)
        least = tl.where(error < least, error, least)

    kept = mse if KEEP_MSE else rtn
    q = _round_steps(tl.div_rn(w, kept[:, None])).to(tl.int32)
    even, odd = tl.split(tl.reshape(q, (GROUPS, _GROUP // 2, 2)))
    nibbles = (even & 0xF) | (odd << 4)
    pairs = first_value[:, None] // 2 + tl.arange(0, _GROUP // 2)[None, :]
    tl.store(packed_ptr + pairs, nibbles.to(tl.int8), mask=is_group[:, None])
    tl.store(scale_ptr + group, kept.to(tl.bfloat16), mask=is_group)

    num_programs = tl.num_programs(0)
    partial_ptr += tl.program_id(0)
    squared_weight = _squared_sum(w)
    # The squares of float32's largest numbers are small in float64: no finite weight makes the sum infinite.
    tl.store(partial_ptr, tl.where(squared_weight < float("inf"), 0.0, 1.0).to(tl.float64))
    tl.store(partial_ptr + num_programs, squared_weight)
    tl.store(partial_ptr + 2 * num_programs, _squared_sum(_rest(w, rtn)))
    tl.store(partial_ptr + 3 * num_programs, _squared_sum(_rest(w, mse)))


@triton.jit
def _decode(stored):
    """What was read, see _READ_AS -> float32, exact."""
    if stored.dtype == tl.uint8:
        bits = stored.to(tl.int32)
        size = (bits & 0x7F) << 20  # exponent and mantissa where float32 has them
        size = size.to(tl.float32, bitcast=True) * _E4M3_UNIT
        size = tl.where((bits & 0x7F) == _E4M3_NAN, float("nan"), size)
        return tl.where(bits >= 0x80, -size, size)
    if stored.dtype == tl.int16:
        return (stored.to(tl.int32) << 16).to(tl.float32, bitcast=True)  # a bf16 is the upper half of a float32
    return stored.to(tl.float32)


@triton.jit
def _round_scale(scale):
    """The nearest usable bf16, as float32; 1 for 0."""
    size = tl.minimum(tl.maximum(tl.abs(scale), _SMALLEST), _LARGEST)
    bits = size.to(tl.int32, bitcast=True)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & -0x10000  # of the lower half: to nearest, half to even
    size = bits.to(tl.float32, bitcast=True)
    return tl.where(scale == 0, 1.0, tl.where(scale < 0, -size, size))


@triton.jit
def _round_steps(steps):
    """To the nearest of the integers that a nibble holds, as float32."""
    return tl.minimum(tl.maximum((steps + _TO_INTEGER) - _TO_INTEGER, _MIN), _MAX)


@triton.jit
def _squared_steps(w, scale):
    """[GROUPS]: sum of (w / scale - q)^2."""
    steps = tl.div_rn(w, scale[:, None])
    rest = steps - _round_steps(steps)
    return tl.sum(rest * rest, axis=1)


@triton.jit
def _rest(w, scale):
    """w - q * scale; the product is exact."""
    return w - _round_steps(tl.div_rn(w, scale[:, None])) * scale[:, None]


@triton.jit
def _squared_sum(values):
    """Of all values, in float64."""
    wide = values.to(tl.float64)
    return tl.sum(tl.sum(wide * wide, axis=1), axis=0)

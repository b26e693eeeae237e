"""The two grouped products of the grouped path: int4 weights on the tensor cores' row side, FP8 tokens on the other.

A nibble v in [-8, 7] with its sign bit flipped is v + 8, and the byte 0x0n is in e4m3 exactly n / 512: the subnormal
numbers and the first normal ones have the same spacing. So decoding takes three bitwise operations for eight weights:

    sum v * x = 512 * (sum (v + 8) / 512 * x  -  sum x / 64),

of which `quantize_rows` supplies the last sum as `bias`. The tensor cores add up one group of 128 products at a time;
groups are added in float32.

BN and BM are the weight rows and the places of a tile. BN is a multiple of 16 rows a warp.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["num_tiles"])
def gate_up(
    values_ptr,
    token_scale_ptr,
    bias_ptr,
    weights_ptr,
    scale_ptr,
    slot_ptr,
    tiles_ptr,
    num_tiles,
    h_ptr,
    HIDDEN: tl.constexpr,
    INNER: tl.constexpr,
    TOPK: tl.constexpr,
    BIAS: tl.constexpr,
    BN: tl.constexpr,
    BM: tl.constexpr,
    UNROLL: tl.constexpr,
    STAGES: tl.constexpr,
    USE_PTX: tl.constexpr,
):
    """h [places, INNER] bf16 = silu(gate) * up for one tile of places and BN / 2 columns."""
    ROW_BLOCKS: tl.constexpr = 2 * INNER // BN
    tile = tl.program_id(0) // ROW_BLOCKS
    column = tl.program_id(0) % ROW_BLOCKS * (BN // 2)
    expert, first, end = _tile(tiles_ptr, num_tiles, tile)
    if first >= end:
        return
    place = tl.minimum(first + tl.arange(0, BM), end - 1)  # behind the end: the last one once more, not stored
    token = tl.load(slot_ptr + place) // TOPK

    # Of 16 rows 8 are gate rows and 8 the up rows of the same columns: they meet in a thread.
    i = tl.arange(0, BN)
    row = column + i // 16 * 8 + i % 8 + i // 8 % 2 * INNER
    weight_ptrs = weights_ptr + expert * (INNER * HIDDEN) + row[:, None] * (HIDDEN // 2) + tl.arange(0, 64)[None, :]
    value_ptrs = values_ptr + token[:, None] * HIDDEN + tl.arange(0, 128)[None, :]
    bias_ptrs = bias_ptr + token[:, None] * BIAS + tl.arange(0, BIAS)[None, :]
    scale_ptr += expert * (HIDDEN // 128 * 2 * INNER)

    acc = _product(
        weight_ptrs, scale_ptr, row, value_ptrs, bias_ptrs, HIDDEN // 128, 2 * INNER, BIAS, UNROLL, STAGES, USE_PTX
    )
    acc *= tl.load(token_scale_ptr + token)[None, :] * 512.0
    gate, up = acc.reshape(BN // 16, 2, 8, BM).permute(0, 2, 3, 1).split()
    h = (gate / (1.0 + tl.exp(-gate)) * up).to(tl.bfloat16).reshape(BN // 2, BM)
    column += tl.arange(0, BN // 2)
    place = first + tl.arange(0, BM)
    tl.store(h_ptr + place[None, :] * INNER + column[:, None], h, mask=(place < end)[None, :])


@triton.jit(do_not_specialize=["num_tiles", "first_block", "num_blocks", "blocks_a_program"])
def down(
    values_ptr,
    token_scale_ptr,
    bias_ptr,
    weights_ptr,
    scale_ptr,
    slot_ptr,
    tiles_ptr,
    num_tiles,
    out_ptr,
    first_block,  # of BN rows: where the columns of `out` begin
    num_blocks,
    blocks_a_program,
    HIDDEN: tl.constexpr,
    INNER: tl.constexpr,
    BIAS: tl.constexpr,
    BN: tl.constexpr,
    BM: tl.constexpr,
    HELD_GROUPS: tl.constexpr,
    UNROLL: tl.constexpr,
    STAGES: tl.constexpr,
    USE_PTX: tl.constexpr,
):
    """out [slots, num_blocks * BN] bf16 = w2 @ h for one tile of places and `blocks_a_program` blocks of BN columns.

    With at most HELD_GROUPS groups the tokens stay in shared memory while the weights of all blocks pass.
    """
    GROUPS: tl.constexpr = INNER // 128
    programs_a_tile = tl.cdiv(num_blocks, blocks_a_program)
    tile = tl.program_id(0) // programs_a_tile
    block = tl.program_id(0) % programs_a_tile * blocks_a_program
    expert, first, end = _tile(tiles_ptr, num_tiles, tile)
    if first >= end:
        return
    place = tl.minimum(first + tl.arange(0, BM), end - 1)
    slot = tl.load(slot_ptr + place)
    token_scale = tl.load(token_scale_ptr + place) * 512.0

    i = tl.arange(0, BN)
    row = i // 16 * 16 + i % 8 * 2 + i // 8 % 2  # a thread holds rows i and i + 8: neighbours in `out`
    weights_ptr += expert * (HIDDEN * INNER // 2) + (first_block + block) * (BN * INNER // 2)
    weight_ptrs = weights_ptr + row[:, None] * (INNER // 2) + tl.arange(0, 64)[None, :]
    value_ptrs = values_ptr + place[:, None] * INNER + tl.arange(0, 128)[None, :]
    scale_ptr += expert * (GROUPS * HIDDEN) + (first_block + block) * BN
    out_ptrs = out_ptr + slot[None, :] * (num_blocks * BN) + block * BN + i[:, None]
    is_place = (first + tl.arange(0, BM) < end)[None, :]

    if GROUPS <= HELD_GROUPS:
        word_ptrs, shift = _words(scale_ptr, row)
        tokens = ()
        biases = ()
        for g in tl.static_range(GROUPS):
            tokens += (tl.load(value_ptrs + g * 128).T,)
            bias_ptrs = bias_ptr + place * BIAS + g
            biases += (tl.load(bias_ptrs).to(tl.float32) + tl.load(bias_ptrs + GROUPS).to(tl.float32),)
        for _ in tl.range(tl.minimum(blocks_a_program, num_blocks - block), num_stages=STAGES):
            acc = tl.zeros((BN, BM), tl.float32)
            for g in tl.static_range(GROUPS):
                scale = _scale(tl.load(word_ptrs + g * (HIDDEN // 2)), shift)
                part = tl.dot(decode(tl.load(weight_ptrs + g * 64), USE_PTX), tokens[g])
                acc += scale[:, None] * (part + biases[g][None, :])
            tl.store(out_ptrs, _down_rows(acc * token_scale[None, :]), mask=is_place)
            weight_ptrs += BN * INNER // 2
            word_ptrs += BN // 2
            out_ptrs += BN
    else:
        bias_ptrs = bias_ptr + place[:, None] * BIAS + tl.arange(0, BIAS)[None, :]
        for _ in range(tl.minimum(blocks_a_program, num_blocks - block)):
            acc = _product(
                weight_ptrs, scale_ptr, row, value_ptrs, bias_ptrs, GROUPS, HIDDEN, BIAS, UNROLL, STAGES, USE_PTX
            )
            tl.store(out_ptrs, _down_rows(acc * token_scale[None, :]), mask=is_place)
            weight_ptrs += BN * INNER // 2
            scale_ptr += BN
            out_ptrs += BN


@triton.jit
def _tile(tiles_ptr, num_tiles, tile):
    """A tile's expert (int64, to multiply sizes with), first place and end."""
    expert = tl.load(tiles_ptr + tile).to(tl.int64)
    return expert, tl.load(tiles_ptr + num_tiles + tile), tl.load(tiles_ptr + 2 * num_tiles + tile)


@triton.jit
def _product(
    weight_ptrs,
    scale_ptr,
    row,
    value_ptrs,
    bias_ptrs,
    GROUPS: tl.constexpr,
    SCALE_STRIDE: tl.constexpr,
    BIAS: tl.constexpr,
    UNROLL: tl.constexpr,
    STAGES: tl.constexpr,
    USE_PTX: tl.constexpr,
):
    """[BN, BM] float32: weights times tokens over all groups, / 512, token scales still to be applied."""
    # The offset of all groups is one small product: scales are bf16, a bias is the sum of two.
    column = tl.arange(0, BIAS)[None, :]
    scale_ptrs = scale_ptr + column % GROUPS * SCALE_STRIDE + row[:, None]
    scales = tl.load(scale_ptrs, mask=column < 2 * GROUPS, other=0.0)
    acc = tl.dot(scales, tl.load(bias_ptrs).T)
    word_ptrs, shift = _words(scale_ptr, row)
    for _ in tl.range(0, GROUPS, UNROLL, num_stages=STAGES):
        for u in tl.static_range(UNROLL):
            scale = _scale(tl.load(word_ptrs + u * (SCALE_STRIDE // 2)), shift)
            tokens = tl.load(value_ptrs + u * 128).T
            acc += scale[:, None] * tl.dot(decode(tl.load(weight_ptrs + u * 64), USE_PTX), tokens)
        weight_ptrs += UNROLL * 64
        value_ptrs += UNROLL * 128
        word_ptrs += UNROLL * (SCALE_STRIDE // 2)
    return acc


@triton.jit
def _down_rows(acc):
    """[BN, BM] float32 in the order of `down`'s tiles -> bf16 in the order of memory."""
    BN: tl.constexpr = acc.shape[0]
    BM: tl.constexpr = acc.shape[1]
    return acc.to(tl.bfloat16).reshape(BN // 16, 2, 8, BM).permute(0, 2, 1, 3).reshape(BN, BM)


@triton.jit
def _words(scale_ptr, row):
    """Scales are loaded two at a time, as asynchronous copies move no less: pointers, and a left shift for `_scale`."""
    return scale_ptr.to(tl.pointer_type(tl.int32)) + row // 2, (1 - row % 2) * 16


@triton.jit
def _scale(words, shift):
    """[BN] int32 -> [BN] float32: a bf16 is the upper half of the float32 of the same value."""
    return (words << shift & -65536).to(tl.float32, bitcast=True)


@triton.jit
def decode(packed, USE_PTX: tl.constexpr):
    """[BN, 64] int8 -> [BN, 128] e4m3 of (v + 8) / 512: the low nibbles of a row, then its high ones."""
    if USE_PTX:  # four bytes at a time; 0x6A is (a & b) ^ c
        low = tl.inline_asm_elementwise(
            "lop3.b32 $0, $1, 0x0F0F0F0F, 0x08080808, 0x6A;", "=r,r", [packed], tl.int8, is_pure=True, pack=4
        )
        high = tl.inline_asm_elementwise(
            "{ .reg .b32 t; shr.u32 t, $1, 4; lop3.b32 $0, t, 0x0F0F0F0F, 0x08080808, 0x6A; }",
            "=r,r",
            [packed],
            tl.int8,
            is_pure=True,
            pack=4,
        )
    else:
        low = (packed & 15) ^ 8
        high = ((packed >> 4) & 15) ^ 8
    low = low.to(tl.float8e4nv, bitcast=True)
    high = high.to(tl.float8e4nv, bitcast=True)
    return tl.join(low, high).permute(0, 2, 1).reshape(packed.shape[0], 128)

"""The order in which the grouped path works: slots by expert, cut into tiles that hold one expert each. Triton.

Few slots are sorted in one launch, in which a program for each expert reads all ids. For many that is too much reading:
their ids are counted chunk by chunk, each expert sums its counts, and each chunk puts its slots in their places.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

FEW_SLOTS = 4096
FEWEST_IDS, MOST_IDS = 512, 2048  # that a program of the one launch looks at together
CHUNK = 128  # ids, each compared with all others of its chunk


class Order(NamedTuple):
    """Places 0, 1, ... hold the slots of expert 0, then those of expert 1, ...; in an expert they ascend."""

    slot_of_place: torch.Tensor  # [num_slots] int32, slot = token * topk + column; unset behind the last place
    tiles: torch.Tensor  # [3, num_tiles] int32: a tile's expert, its first place, the end of that expert's places
    starts: torch.Tensor  # [num_experts + 1] int32: an expert's first place; last the number of places

    @property
    def num_places(self) -> torch.Tensor:
        """[1] int32: slots that have an expert here."""
        return self.starts[-1:]


def order_slots(topk_ids: torch.Tensor, num_experts: int, tile: int) -> Order:
    """Sort slots by expert, without a float or an atomic operation.

    The number of tiles follows from the shapes. An expert's tiles are numbered from (its first place) // tile + expert,
    which needs no other expert's tile count and leaves room for partial tiles; those without a slot have first = end.

    Args:
        topk_ids: [num_tokens, topk] int32, contiguous; negative ids are left out.
        tile: places a tile has at most.
    """
    num_slots = topk_ids.numel()
    num_tiles = num_slots // tile + num_experts
    order = Order(topk_ids.new_empty(num_slots), topk_ids.new_empty(3, num_tiles), topk_ids.new_empty(num_experts + 1))
    if num_slots <= FEW_SLOTS:
        scan = min(max(triton.next_power_of_2(num_slots), FEWEST_IDS), MOST_IDS)
        _order[(num_experts,)](topk_ids, *order, num_slots, num_tiles, TILE=tile, SCAN=scan, num_warps=4)
        return order
    num_chunks = triton.cdiv(num_slots, CHUNK)
    rank = topk_ids.new_empty(num_slots)
    up_to, start = topk_ids.new_empty(2, num_experts, num_chunks)
    experts = triton.next_power_of_2(num_experts)
    _count[(num_chunks,)](topk_ids, rank, up_to, num_slots, num_experts, CHUNK=CHUNK, EXPERTS=experts, num_warps=4)
    chunks = triton.next_power_of_2(num_chunks)
    _start[(num_experts,)](up_to, start, *order[1:], num_chunks, num_tiles, TILE=tile, CHUNKS=chunks, num_warps=4)
    _place[(num_chunks,)](topk_ids, rank, start, order.slot_of_place, num_slots, CHUNK=CHUNK, num_warps=4)
    return order


@triton.jit(do_not_specialize=["num_slots", "num_tiles"])
def _order(ids_ptr, slot_ptr, tiles_ptr, starts_ptr, num_slots, num_tiles, TILE: tl.constexpr, SCAN: tl.constexpr):
    """Program e finds the slots of expert e."""
    expert = tl.program_id(0)
    lanes = tl.arange(0, SCAN)
    before = tl.zeros((SCAN,), tl.int32)
    mine = tl.zeros((SCAN,), tl.int32)
    for begin in range(0, num_slots, SCAN):
        ids = tl.load(ids_ptr + begin + lanes, mask=begin + lanes < num_slots, other=-1)
        before += ((ids >= 0) & (ids < expert)).to(tl.int32)
        mine += (ids == expert).to(tl.int32)
    first = tl.sum(before)
    end = first + tl.sum(mine)
    _write_tiles(tiles_ptr, starts_ptr, num_tiles, first, end, TILE)

    place = first
    if end > first:
        for begin in range(0, num_slots, SCAN):
            ids = tl.load(ids_ptr + begin + lanes, mask=begin + lanes < num_slots, other=-1)
            is_mine = ids == expert
            rank = tl.cumsum(is_mine.to(tl.int32))
            tl.store(slot_ptr + place + rank - 1, begin + lanes, mask=is_mine)
            place += tl.sum(is_mine.to(tl.int32))


@triton.jit(do_not_specialize=["num_slots", "num_experts"])
def _count(ids_ptr, rank_ptr, up_to_ptr, num_slots, num_experts, CHUNK: tl.constexpr, EXPERTS: tl.constexpr):
    """Program c: how many of chunk c's ids are experts 0 to e, for each e, and each slot's rank in its expert."""
    chunk = tl.program_id(0)
    lane = tl.arange(0, CHUNK)
    slot = chunk * CHUNK + lane
    ids = tl.load(ids_ptr + slot, mask=slot < num_slots, other=-1)
    count = tl.histogram(ids, EXPERTS, mask=ids >= 0)
    expert = tl.arange(0, EXPERTS)
    to = up_to_ptr + expert * tl.num_programs(0) + chunk
    tl.store(to, tl.cumsum(count), mask=expert < num_experts)

    earlier = tl.zeros((32, CHUNK), tl.int32)
    for begin in tl.static_range(0, CHUNK, 32):
        other = begin + tl.arange(0, 32)
        other_ids = tl.load(ids_ptr + chunk * CHUNK + other, mask=chunk * CHUNK + other < num_slots, other=-1)
        is_same = (other_ids[:, None] == ids[None, :]) & (other[:, None] < lane[None, :])
        earlier += is_same.to(tl.int32)
    tl.store(rank_ptr + slot, tl.sum(earlier, axis=0), mask=slot < num_slots)


@triton.jit(do_not_specialize=["num_chunks", "num_tiles"])
def _start(
    up_to_ptr,
    start_ptr,
    tiles_ptr,
    starts_ptr,
    num_chunks,
    num_tiles,
    TILE: tl.constexpr,
    CHUNKS: tl.constexpr,
):
    """Program e: the place at which each chunk's slots of expert e begin."""
    expert = tl.program_id(0)
    chunk = tl.arange(0, CHUNKS)
    at = expert * num_chunks + chunk
    before = tl.load(up_to_ptr + at - num_chunks, mask=(chunk < num_chunks) & (expert > 0), other=0)
    mine = tl.load(up_to_ptr + at, mask=chunk < num_chunks, other=0) - before
    first = tl.sum(before)
    tl.store(start_ptr + at, first + tl.cumsum(mine) - mine, mask=chunk < num_chunks)
    _write_tiles(tiles_ptr, starts_ptr, num_tiles, first, first + tl.sum(mine), TILE)


@triton.jit(do_not_specialize=["num_slots"])
def _place(ids_ptr, rank_ptr, start_ptr, slot_ptr, num_slots, CHUNK: tl.constexpr):
    chunk = tl.program_id(0)
    slot = chunk * CHUNK + tl.arange(0, CHUNK)
    ids = tl.load(ids_ptr + slot, mask=slot < num_slots, other=-1)
    start = tl.load(start_ptr + ids * tl.num_programs(0) + chunk, mask=ids >= 0, other=0)
    rank = tl.load(rank_ptr + slot, mask=ids >= 0, other=0)
    tl.store(slot_ptr + start + rank, slot, mask=ids >= 0)


@triton.jit
def _write_tiles(tiles_ptr, starts_ptr, num_tiles, first, end, TILE: tl.constexpr):
    """Of the program's expert, whose places are [first, end); the last expert's program also the empty tiles behind."""
    expert = tl.program_id(0)
    first_tile = first // TILE + expert
    end_tile = end // TILE + expert + 1
    tl.store(starts_ptr + expert, first)
    if expert == tl.num_programs(0) - 1:
        tl.store(starts_ptr + expert + 1, end)
        end_tile = num_tiles
    for begin in range(first_tile, end_tile, 128):
        tile = begin + tl.arange(0, 128)
        tile_first = tl.minimum(first + (tile - first_tile) * TILE, end)
        tl.store(tiles_ptr + tile, expert, mask=tile < end_tile)
        tl.store(tiles_ptr + num_tiles + tile, tile_first, mask=tile < end_tile)
        tl.store(tiles_ptr + 2 * num_tiles + tile, end, mask=tile < end_tile)

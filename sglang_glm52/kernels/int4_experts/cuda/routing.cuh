// Which slots go to which expert, found by each block for itself: that takes about a microsecond, in which the block
// would wait for its predecessor anyway.

#pragma once

#include "int4_mma.cuh"

using u16 = unsigned short;

// A routed token: one of its topk experts. slot / topk is the token.
using Slot = u16;

// Up to 8 slots of one expert: order[first .. first + count).
struct Unit {
  u16 expert, first, count;
};

// `make_units` for up to 32 slots, one a lane, experts in the order of their first slots. Returns the number of units.
__device__ int make_units_of_warp(int expert, Slot* order, Unit* units) {
  const int slot = threadIdx.x % 32;
  const uint same = __match_any_sync(~0u, expert);
  const int count = __popc(same), rank = __popc(same & ((1u << slot) - 1)), leader = __ffs(same) - 1;
  // Of each expert's first slot: slots (lower half) and units (upper half) up to and with this expert.
  const uint mine = expert >= 0 && rank == 0 ? count | (count + COLUMNS - 1) / COLUMNS << 16 : 0;
  uint sum = mine;
  for (int step = 1; step < 32; step *= 2) {
    const uint other = __shfl_up_sync(~0u, sum, step);
    if (slot >= step) sum += other;
  }
  const uint before = __shfl_sync(~0u, sum - mine, leader);
  if (expert >= 0) {
    const int place = (before & 0xffff) + rank;
    order[place] = slot;
    if (rank % COLUMNS == 0)
      units[(before >> 16) + rank / COLUMNS] = {u16(expert), u16(place), u16(min(COLUMNS, count - rank))};
  }
  return __shfl_sync(~0u, sum, 31) >> 16;
}

// Sorts the slots by expert, and each expert's by slot, and cuts them into units; returns their number. All THREADS of
// the block take part and may read the results afterwards. Shared memory: counts [num_experts], order [2 * num_slots],
// units [num_slots].
template <int THREADS>
__device__ int make_units(const int* topk_ids, int num_slots, int num_experts, int* counts, Slot* order, Unit* units) {
  __shared__ int num_units;
  Slot* unordered = order + num_slots;
  const int thread = threadIdx.x;
  if (num_slots <= 32) {
    if (thread < 32) {
      const int units_here = make_units_of_warp(thread < num_slots ? topk_ids[thread] : -1, order, units);
      if (thread == 0) num_units = units_here;
    }
    __syncthreads();
    return num_units;
  }
#pragma unroll 1
  for (int expert = thread; expert < num_experts; expert += THREADS) counts[expert] = 0;
  __syncthreads();
#pragma unroll 4
  for (int slot = thread; slot < num_slots; slot += THREADS) {
    const int expert = topk_ids[slot];
    if (expert >= 0) atomicAdd(&counts[expert], 1);
  }
  __syncthreads();
  if (thread < 32) {  // running sums of slots (lower half) and units (upper half)
    const int each = (num_experts + 31) / 32, begin = thread * each, end = min(begin + each, num_experts);
    uint sum = 0;
    for (int expert = begin; expert < end; ++expert)
      sum += counts[expert] + ((counts[expert] + COLUMNS - 1) / COLUMNS << 16);
    uint before = sum;
    for (int step = 1; step < 32; step *= 2) {
      const uint other = __shfl_up_sync(~0u, before, step);
      if (thread >= step) before += other;
    }
    if (thread == 31) num_units = before >> 16;
    before -= sum;
#pragma unroll 1
    for (int expert = begin; expert < end; ++expert) {
      const int count = counts[expert], first = before & 0xffff;
      counts[expert] = first;
      for (int done = 0; done < count; done += COLUMNS, before += 1 << 16)
        units[before >> 16] = {u16(expert), u16(first + done), u16(min(COLUMNS, count - done))};
      before += count;
    }
  }
  __syncthreads();
#pragma unroll 4
  for (int slot = thread; slot < num_slots; slot += THREADS) {
    const int expert = topk_ids[slot];
    if (expert >= 0) unordered[atomicAdd(&counts[expert], 1)] = slot;
  }
  __syncthreads();
  // Now counts[e] is where the slots of e end and those of e + 1 begin. Blocks must agree on what is in a unit, so a
  // slot's place among its expert's is the number of earlier ones.
#pragma unroll 1
  for (int slot = thread; slot < num_slots; slot += THREADS) {
    const int expert = topk_ids[slot];
    if (expert < 0) continue;
    const int first = expert ? counts[expert - 1] : 0;
    int place = first;
    for (int i = first; i < counts[expert]; ++i) place += unordered[i] < slot;
    order[place] = slot;
  }
  __syncthreads();
  return num_units;
}

// Histograms of a row's keys, of which each block of the row has a part, and the bin in them where a rank lies.
// Macros: CLUSTER, THREADS.

#pragma once

#include "device.cuh"

// 2^BITS bins in shared memory, zeros at first; a group is 2^(BITS / 2) neighbours of them.
template <int BITS>
struct Histogram {
  static constexpr int SIDE = 1 << BITS / 2;
  static_assert(BITS % 2 == 0 && SIDE >= 32);
  uint bins[SIDE * SIDE];
  uint groups[SIDE];
  uint group_sums[SIDE], bin_sums[SIDE];  // over all blocks; bins of the group where the rank lies
};

struct Bin {
  uint index, above, count;  // above: keys in all higher bins
};

// The highest of SIZE bins that has `wanted` keys together with those above it, or bin 0. Each warp finds it alone.
template <int SIZE>
__device__ Bin find_among(const uint* counts, uint wanted) {
  constexpr int EACH = SIZE / 32;
  uint index = SIZE - 1 - lane_index() * EACH, own[EACH], sum = 0;
#pragma unroll
  for (int i = 0; i < EACH; ++i) sum += own[i] = counts[index - i];
  const uint through = running_sum(sum);
  uint above = through - sum, count = own[0];
#pragma unroll
  for (int i = 1; i < EACH; ++i)
    if (above + count < wanted) above += count, count = own[i], --index;
  const uint reached = __ballot_sync(~0u, through >= wanted);
  const int found = reached ? __ffs(reached) - 1 : 31;
  return {__shfl_sync(~0u, index, found), __shfl_sync(~0u, above, found), __shfl_sync(~0u, count, found)};
}

// Adds counts[i] of all blocks to sums[i], for SIZE of them; the threads of a block may read the sums afterwards.
template <int SIZE>
__device__ void sum_over_blocks(uint* sums, const uint* counts, int blocks) {
#pragma unroll
  for (int item = warp_index(); item < CLUSTER * SIZE / 32; item += WARPS) {
    const int block = item % CLUSTER, i = item / CLUSTER * 32 + lane_index();
    if (block >= blocks) continue;
    const uint count = load_remote(counts + i, block);
    if (count) atomicAdd(sums + i, count);
  }
  __syncthreads();
}

// The highest bin that has `wanted` keys of the row together with those above it. All threads of the row's blocks call
// it, after they have counted; the others may still read this block's counts when it returns.
template <int BITS>
__device__ Bin find(Histogram<BITS>& histogram, uint wanted, int blocks) {
  constexpr int SIDE = Histogram<BITS>::SIDE;
  __syncthreads();
#pragma unroll
  for (int group = warp_index(); group < SIDE; group += WARPS) {
    uint sum = 0;
#pragma unroll
    for (int i = 0; i < SIDE; i += 32) sum += histogram.bins[group * SIDE + i + lane_index()];
    sum = __reduce_add_sync(~0u, sum);
    if (lane_index() == 0) histogram.groups[group] = sum;
  }
  const uint* groups = histogram.groups;
  if (blocks > 1) {
    sync_cluster();
    sum_over_blocks<SIDE>(histogram.group_sums, groups, blocks);
    groups = histogram.group_sums;
  } else {
    __syncthreads();
  }
  const Bin group = find_among<SIDE>(groups, wanted);
  const uint* bins = histogram.bins + group.index * SIDE;
  if (blocks > 1) {
    sum_over_blocks<SIDE>(histogram.bin_sums, bins, blocks);
    bins = histogram.bin_sums;
  }
  const Bin bin = find_among<SIDE>(bins, wanted - group.above);
  return {group.index * SIDE + bin.index, group.above + bin.above, bin.count};
}

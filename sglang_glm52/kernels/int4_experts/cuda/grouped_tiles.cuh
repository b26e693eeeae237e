// Which places a block works on. Macro: PLACES, the most of a tile.

#pragma once

#include "device.cuh"

static_assert(PLACES % 16 == 0 && PLACES <= 160);

// Places [first, first + count) of one expert.
struct Tile {
  int expert, first, count;

  __device__ __forceinline__ int columns() const { return (count + 15) / 16; }  // of a product, 16 each
};

// All tiles, in the order of the experts. An expert's places are cut into tiles of about equal size, multiples of 16;
// the last may be smaller, or empty. In shared memory, 8 * (num_experts + 1) bytes.
struct Tiles {
  int* before;  // [num_experts + 1] number of tiles of earlier experts
  int* starts;  // [num_experts + 1] first place of an expert
  int num_experts;

  __device__ Tiles(void* memory, int num_experts)
      : before(static_cast<int*>(memory)), starts(before + num_experts + 1), num_experts(num_experts) {}

  __device__ __forceinline__ int total() const { return before[num_experts]; }

  // All THREADS of the block call it; `from` is `starts` in global memory.
  template <int THREADS>
  __device__ void init(const int* from) const {
    __shared__ int warp_sums[THREADS / 32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int earlier = 0;
    for (int base = 0; base <= num_experts; base += THREADS) {
      const int expert = base + threadIdx.x;
      const int start = expert <= num_experts ? from[expert] : 0;
      const int mine = expert < num_experts ? tiles_of(from[expert + 1] - start) : 0;
      int sum = mine;
      for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_up_sync(~0u, sum, step);
        if (lane >= step) sum += other;
      }
      if (lane == 31) warp_sums[warp] = sum;
      __syncthreads();
      int all = 0;
      for (int i = 0; i < THREADS / 32; ++i) {
        if (i < warp) sum += warp_sums[i];
        all += warp_sums[i];
      }
      if (expert <= num_experts) before[expert] = earlier + sum - mine, starts[expert] = start;
      earlier += all;
      __syncthreads();
    }
  }
  // Whole warps call it.
  __device__ __forceinline__ Tile find(int tile) const {
    int expert = -1;
    for (int base = 0; base < num_experts; base += 32) {
      const int other = base + threadIdx.x % 32;
      expert += __popc(__ballot_sync(~0u, other < num_experts && before[other] <= tile));
    }
    const int start = starts[expert], count = starts[expert + 1] - start, num = tiles_of(count);
    const int size = (count + num * 16 - 1) / (num * 16) * 16, first = (tile - before[expert]) * size;
    return {expert, start + first, min(size, count - first)};
  }
  static __device__ __forceinline__ int tiles_of(int count) { return (count + PLACES - 1) / PLACES; }
};

// Calls consumer.compute<N>() for the smallest N = 16, 32, ... that holds so many times 16 columns.
template <int N = 16, typename Consumer>
__device__ __forceinline__ void with_columns(int columns, Consumer& consumer) {
  if constexpr (N < PLACES)
    if (columns > N / 16) return with_columns<N + 16>(columns, consumer);
  consumer.template compute<N>();
}

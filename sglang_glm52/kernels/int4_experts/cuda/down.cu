// out = factor * sum over a token's slots of weight * (w2 @ h).
// Macros: HIDDEN, INNER, DOWN_WARPS, DOWN_TILES, DOWN_GROUPS, DOWN_REGISTERS.

#include "fp8.cuh"
#include "routing.cuh"

constexpr int SLOT_PIECES = INNER / 8;  // of 16 bytes
constexpr int DOWN_THREADS = DOWN_WARPS * 32;
constexpr int DOWN_ROWS = ROWS * DOWN_TILES;
constexpr int NUM_STEPS = INNER / GROUP / DOWN_GROUPS;
static_assert(INNER % (GROUP * DOWN_GROUPS) == 0 && HIDDEN % DOWN_ROWS == 0);

// A block computes DOWN_ROWS outputs of every token. Its warps share out the units, and have the weights of the next on
// their way while they compute one. A product times the router's weight goes to a place of its own in shared memory.
// The sums are made at the end, so their order is that of the slots.
extern "C" __global__ void __maxnreg__(DOWN_REGISTERS) down(
    const signed char* w2,      // [num_experts, HIDDEN, INNER / 2]
    const bf16* scale2,         // [num_experts, INNER / 128, HIDDEN]
    const uint4* h,             // [num_slots, INNER] e4m3 values as fp16 in the order of `position`
    const uint* absmax_h,       // [num_slots]
    const float* static_h,      // one scale for all slots, or null
    const int* topk_ids,        // [num_slots]
    const float* topk_weights,  // [num_slots]
    float factor,
    int num_slots,
    int topk,
    int num_experts,
    bf16* out) {                // out [num_tokens, HIDDEN]
  // Dynamic: product [num_slots][DOWN_ROWS] float, weight [num_slots] float, counts [num_experts] int, units
  // [num_slots], order [2 * num_slots].
  extern __shared__ uint4 dynamic_shared[];
  __shared__ uint4 scale_copies[DOWN_WARPS][2][DOWN_GROUPS * DOWN_ROWS / 8];  // 8 bf16 each; in use, and on their way
  float* product = reinterpret_cast<float*>(dynamic_shared);
  float* weight = product + num_slots * DOWN_ROWS;
  int* counts = reinterpret_cast<int*>(weight + num_slots);
  Unit* units = reinterpret_cast<Unit*>(counts + num_experts);
  Slot* order = reinterpret_cast<Slot*>(units + num_slots);
  const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32, g = lane / 4, t = lane % 4;
  const int first_row = blockIdx.x * DOWN_ROWS;
  const int num_units = make_units<DOWN_THREADS>(topk_ids, num_slots, num_experts, counts, order, units);

  uint4 weights[DOWN_TILES][DOWN_GROUPS][2];
  auto load_tile = [&](int tile, int unit, int step) {
    if (unit >= num_units) return;
    const int row = first_row + tile * ROWS + g;
    const signed char* from = w2 + (static_cast<size_t>(units[unit].expert) * HIDDEN + row) * (INNER / 2) +
                              step * DOWN_GROUPS * (GROUP / 2) + t * 16;
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int group = 0; group < DOWN_GROUPS; ++group)
        weights[tile][group][half] = load_streamed(from + half * 8 * (INNER / 2) + group * (GROUP / 2));
  };
  const uint my_scales = shared_address(scale_copies[warp]);
  auto load_scales = [&](int buffer, int unit, int step) {
    constexpr int PIECES = DOWN_ROWS / 8;
    if (unit < num_units && lane < DOWN_GROUPS * PIECES) {
      const int group = lane / PIECES, piece = lane % PIECES;
      const int row = first_row + piece * 8;
      const size_t expert = units[unit].expert;
      copy_async(my_scales + (buffer * DOWN_GROUPS * PIECES + lane) * 16,
                 scale2 + (expert * (INNER / GROUP) + step * DOWN_GROUPS + group) * HIDDEN + row);
    }
    end_copy_batch();
  };
#pragma unroll
  for (int tile = 0; tile < DOWN_TILES; ++tile) load_tile(tile, warp, 0);
  load_scales(0, warp, 0);
  const int num_routed = num_units ? units[num_units - 1].first + units[num_units - 1].count : 0;
  for (int i = thread; i < num_slots * (DOWN_ROWS / 4); i += DOWN_THREADS)  // slots without an expert here add nothing
    if (topk_ids[i / (DOWN_ROWS / 4)] < 0) reinterpret_cast<float4*>(product)[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  wait_for_predecessor();
  let_successor_start();

  for (int place = thread; place < num_routed; place += DOWN_THREADS) {
    const int slot = order[place];
    weight[place] = scale_of_slot(absmax_h, static_h, slot) * topk_weights[slot];
  }
  __syncthreads();
  uint4 b[DOWN_GROUPS][4];
  auto load_b = [&](int group, int unit, int step) {
    if (unit >= num_units) return;
    const Unit its = units[unit];
    const int place = its.first + min(g, its.count - 1);  // columns beyond the last repeat it and are dropped
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int piece = ((step * DOWN_GROUPS + group) * 4 + i) * 4 + t;
      b[group][i] = __ldcg(h + order[place] * SLOT_PIECES + piece);
    }
  };
#pragma unroll
  for (int group = 0; group < DOWN_GROUPS; ++group) load_b(group, warp, 0);
  int buffer = 0;
  for (int unit = warp; unit < num_units; unit += DOWN_WARPS) {
    const Unit mine = units[unit];
    float* to[2];  // where the products of this lane's two columns go
    float column_weight[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int place = mine.first + min(2 * t + i, mine.count - 1);
      to[i] = product + order[place] * DOWN_ROWS + g;
      column_weight[i] = weight[place];
    }
    float sum[DOWN_TILES][4] = {};
#pragma unroll 1
    for (int step = 0; step < NUM_STEPS; ++step) {
      const bool is_last = step + 1 == NUM_STEPS;
      const int next_unit = is_last ? unit + DOWN_WARPS : unit, next_step = is_last ? 0 : step + 1;
      load_scales(buffer ^ 1, next_unit, next_step);
      wait_for_copies<1>();
      __syncwarp();
#pragma unroll
      for (int tile = 0; tile < DOWN_TILES; ++tile) {
#pragma unroll
        for (int group = 0; group < DOWN_GROUPS; ++group) {
          float acc[4] = {};
          multiply_group(acc, weights[tile][group][0], weights[tile][group][1], b[group]);
          if (tile + 1 == DOWN_TILES) load_b(group, next_unit, next_step);
          const uint scales = my_scales + ((buffer * DOWN_GROUPS + group) * DOWN_ROWS + tile * ROWS + g) * 2;
          const float upper = load_shared_bf16(scales), lower = load_shared_bf16(scales + 16);
#pragma unroll
          for (int i = 0; i < 4; ++i) sum[tile][i] = fmaf(i < 2 ? upper : lower, acc[i], sum[tile][i]);
        }
        load_tile(tile, next_unit, next_step);
        if (!is_last) continue;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          if (2 * t + i >= mine.count) continue;
          to[i][tile * ROWS] = sum[tile][i] * column_weight[i];
          to[i][tile * ROWS + 8] = sum[tile][2 + i] * column_weight[i];
        }
      }
      __syncwarp();
      buffer ^= 1;
    }
  }
  __syncthreads();

  constexpr int PAIRS = DOWN_ROWS / 2;
#pragma unroll 1
  for (int i = thread; i < num_slots / topk * PAIRS; i += DOWN_THREADS) {
    const int token = i / PAIRS, row = i % PAIRS * 2;
    float2 sum = make_float2(0.0f, 0.0f);
#pragma unroll 8
    for (int slot = token * topk; slot < (token + 1) * topk; ++slot) {
      const float2 value = *reinterpret_cast<const float2*>(product + slot * DOWN_ROWS + row);
      sum.x += value.x, sum.y += value.y;
    }
    *reinterpret_cast<__nv_bfloat162*>(out + static_cast<size_t>(token) * HIDDEN + first_row + row) =
        __floats2bfloat162_rn(factor * sum.x, factor * sum.y);
  }
}

// h = silu(gate) * up, where (gate, up) = w13 @ x.
// Macros: HIDDEN, INNER, GATE_WARPS, GATE_TILES, GATE_STAGES, GATE_REGISTERS, GATE_ASKED.

#include "routing.cuh"

// Weights on their way to one warp: of two groups of inputs, for each tile 8 rows of gate and 8 of up, 128 bytes each,
// so that memory is read by whole cache lines; then their scales, by group, tile, and gate or up, 8 of 2 bytes. In
// every second row the pieces of the two groups have changed places, which keeps reading free of bank conflicts.
constexpr int GATE_SCALES = GATE_TILES * ROWS * GROUP;         // bytes before the scales
constexpr int GATE_STAGE = GATE_SCALES + GATE_TILES * 4 * 16;  // bytes in all
constexpr int GATE_THREADS = GATE_WARPS * 32;

// A block computes items: 8 * GATE_TILES values of h for the slots of one unit. In a tile rows 0..7 are of gate, 8..15
// the matching ones of up. The warps share out pairs of groups of inputs, and load ahead beyond the end of an item.
extern "C" __global__ void __maxnreg__(GATE_REGISTERS) gate_up(
    const signed char* w13,  // [num_experts, 2 * INNER, HIDDEN / 2]
    const bf16* scale13,     // [num_experts, HIDDEN / 128, 2 * INNER]
    const signed char* w2,   // [num_experts, HIDDEN, INNER / 2], which `down` reads next
    const __half* q,         // [num_tokens, HIDDEN], from `prepare`
    const float* scale_x,    // [num_tokens]
    const int* topk_ids,     // [num_slots]
    int num_slots,
    int topk,
    int num_experts,
    bf16* h,                 // out [num_slots, INNER] in the order of `position`
    uint* absmax_h) {        // out [num_slots] float32 bits: largest |h| of a slot; zeros before
  constexpr int NUM_GROUPS = HIDDEN / GROUP, NUM_PAIRS = (NUM_GROUPS + 1) / 2, ITEMS = INNER / (8 * GATE_TILES);
  // Dynamic: stages, then counts [num_experts] int, units [num_slots], order [2 * num_slots].
  extern __shared__ uint4 dynamic_shared[];
  __shared__ float4 partial[2][GATE_WARPS][GATE_TILES][32];  // of this item and the one before
  int* counts = reinterpret_cast<int*>(reinterpret_cast<char*>(dynamic_shared) + GATE_WARPS * GATE_STAGES * GATE_STAGE);
  Unit* units = reinterpret_cast<Unit*>(counts + num_experts);
  Slot* order = reinterpret_cast<Slot*>(units + num_slots);
  const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32, g = lane / 4, t = lane % 4;
  const int num_items = make_units<GATE_THREADS>(topk_ids, num_slots, num_experts, counts, order, units) * ITEMS;

  const uint stages = shared_address(dynamic_shared) + warp * (GATE_STAGES * GATE_STAGE);
  const int piece = lane % 8, row = lane / 8;  // of the 4 rows of 128 bytes that a warp copies at once
  const signed char* my_weights;
  const bf16* my_scales;
  auto go_to_item = [&](int item) {
    const size_t expert = units[item / ITEMS].expert;
    const int first_row = item % ITEMS * 8 * GATE_TILES;
    my_weights = w13 + (expert * 2 * INNER + first_row + row) * (HIDDEN / 2) + piece * 16;
    my_scales = scale13 + (expert * NUM_GROUPS + lane / (2 * GATE_TILES)) * 2 * INNER + first_row +
                lane / 2 % GATE_TILES * 8 + lane % 2 * INNER;
  };
  int item_to_load = blockIdx.x, pair_to_load = warp;
  if (item_to_load < num_items) go_to_item(item_to_load);
  auto load_next = [&](uint stage) {
    if (pair_to_load < NUM_PAIRS && item_to_load < num_items) {
      const bool has_both = NUM_GROUPS % 2 == 0 || pair_to_load + 1 < NUM_PAIRS;
      if (has_both || piece < 4) {
#pragma unroll
        for (int i = 0; i < 4 * GATE_TILES; ++i)
          copy_async(stage + (i * 4 + row) * GROUP + (piece ^ row % 2 * 4) * 16,
                     my_weights + (i / 4 * 8 + i % 2 * 4 + i / 2 % 2 * INNER) * (HIDDEN / 2) + pair_to_load * GROUP);
      }
      if (lane < (has_both ? 4 : 2) * GATE_TILES)
        copy_async(stage + GATE_SCALES + lane * 16, my_scales + pair_to_load * 4 * INNER);
      pair_to_load += GATE_WARPS;
      if (pair_to_load >= NUM_PAIRS) {
        pair_to_load = warp;
        item_to_load += gridDim.x;
        if (item_to_load < num_items) go_to_item(item_to_load);
      }
    }
    end_copy_batch();
  };
#pragma unroll 1
  for (int i = 0; i < GATE_STAGES; ++i) load_next(stages + i * GATE_STAGE);
  wait_for_predecessor();
  let_successor_start();
  if (blockIdx.x >= num_items) return;

  const uint4* my_q;  // of the token in column g; columns beyond the last repeat it, and their results are dropped
  auto find_token = [&](int item) {
    const Unit unit = units[item / ITEMS];
    const int token = order[unit.first + min(g, unit.count - 1)] / topk;
    my_q = reinterpret_cast<const uint4*>(q + static_cast<size_t>(token) * HIDDEN) + t;
  };
  auto load_b = [&](uint4 (&b)[4], int group) {
    if (NUM_GROUPS % 2 && group >= NUM_GROUPS) return;
#pragma unroll
    for (int i = 0; i < 4; ++i) b[i] = my_q[group * (GROUP / 8) + i * 4];
  };
  uint stage = stages;
  float sum[GATE_TILES][4];
  auto add_group = [&](int half, const uint4 (&b)[4]) {
#pragma unroll
    for (int tile = 0; tile < GATE_TILES; ++tile) {
      const uint weights = stage + (tile * ROWS + g) * GROUP + ((half * 4 + t) ^ g % 2 * 4) * 16;
      const uint scales = stage + GATE_SCALES + (half * GATE_TILES + tile) * 32 + g * 2;
      float acc[4] = {};
      multiply_group(acc, load_shared(weights), load_shared(weights + 8 * GROUP), b);
      const float gate_scale = load_shared_bf16(scales), up_scale = load_shared_bf16(scales + 16);
#pragma unroll
      for (int i = 0; i < 4; ++i) sum[tile][i] = fmaf(i < 2 ? gate_scale : up_scale, acc[i], sum[tile][i]);
    }
  };
  // While a block finishes its last item, and until `down` asks for its first weights, memory would have nothing to do:
  // the L2 cache is asked for those of the units that the warps of `down` begin with, each block for a slice of each.
  auto ask_for_w2 = [&](int first) {
    constexpr int BYTES = HIDDEN * (INNER / 2), LINE = 128;
    const int blocks = min(static_cast<int>(gridDim.x), num_items);  // that have an item
    const int slice = (BYTES / LINE + blocks - 1) / blocks * LINE, begin = blockIdx.x * slice;
    const int unit = first + lane * (GATE_WARPS - GATE_TILES);
    if (unit < min(num_items / ITEMS, GATE_ASKED) && begin < BYTES)
      ask_l2(w2 + static_cast<size_t>(units[unit].expert) * BYTES + begin, min(slice, BYTES - begin));
  };
  uint4 even[4], odd[4];  // activations of a pair's groups, loaded as soon as those of the pair before are used up
  find_token(blockIdx.x);
  if (warp < NUM_PAIRS) {
    load_b(even, 2 * warp);
    load_b(odd, 2 * warp + 1);
  }
  for (int item = blockIdx.x, turn = 0; item < num_items; item += gridDim.x, ++turn) {
    const Unit unit = units[item / ITEMS];
#pragma unroll
    for (int i = 0; i < GATE_TILES * 4; ++i) sum[i / 4][i % 4] = 0.0f;
    for (int pair = warp; pair < NUM_PAIRS; pair += GATE_WARPS) {
      wait_for_copies<GATE_STAGES - 1>();
      __syncwarp();
      add_group(0, even);
      int next_pair = pair + GATE_WARPS;
      if (next_pair >= NUM_PAIRS) {
        next_pair = warp;
        if (item + gridDim.x < num_items) find_token(item + gridDim.x);
      }
      load_b(even, 2 * next_pair);
      if (2 * pair + 1 < NUM_GROUPS) add_group(1, odd);
      load_b(odd, 2 * next_pair + 1);
      __syncwarp();
      load_next(stage);
      stage = stage == stages + (GATE_STAGES - 1) * GATE_STAGE ? stages : stage + GATE_STAGE;
    }
    const int tile = (warp + turn * GATE_TILES) % GATE_WARPS;  // that this warp finishes, if there is such a one
    int slot[2];  // of this lane's two columns
    float scale[2];
    if (tile < GATE_TILES)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        slot[i] = order[unit.first + min(2 * t + i, unit.count - 1)];
        scale[i] = scale_x[slot[i] / topk];
      }
    const int half = turn % 2;
#pragma unroll
    for (int i = 0; i < GATE_TILES; ++i)
      partial[half][warp][i][lane] = make_float4(sum[i][0], sum[i][1], sum[i][2], sum[i][3]);
    __syncthreads();
    if (tile >= GATE_TILES) {
      if (item + gridDim.x >= num_items) ask_for_w2(tile - GATE_TILES);
      continue;
    }
    float4 total = partial[half][0][tile][lane];
#pragma unroll
    for (int i = 1; i < GATE_WARPS; ++i) {
      const float4 more = partial[half][i][tile][lane];
      total.x += more.x, total.y += more.y, total.z += more.z, total.w += more.w;
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float gate = (i ? total.y : total.x) * scale[i], up = (i ? total.w : total.z) * scale[i];
      const bf16 value = __float2bfloat16_rn(gate / (1.0f + __expf(-gate)) * up);
      float absmax = fabsf(__bfloat162float(value));
      for (int step = 4; step < 32; step *= 2) absmax = fmaxf(absmax, __shfl_xor_sync(~0u, absmax, step));
      if (2 * t + i >= unit.count) continue;
      h[static_cast<size_t>(slot[i]) * INNER + position((item % ITEMS * GATE_TILES + tile) * 8 + g)] = value;
      if (g == 0) atomicMax(absmax_h + slot[i], __float_as_uint(absmax));  // numbers >= 0 and their bits order alike
    }
  }
}

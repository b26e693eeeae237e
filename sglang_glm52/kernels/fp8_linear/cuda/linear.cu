// out = fp8(x) @ w^T for a few tokens, where fp8 rounds each token's groups of 128 inputs, and w has block scales.
// Macros: OUTPUTS, INPUTS, TOKEN_TILES, ROW_TILES, K_WARPS, UNITS, SPLITS.
//
// A unit is 16 rows of weights by a group of 128 inputs. A warp takes UNITS of them, one behind the other in memory, and
// has all on their way, into registers, before it waits for the kernel that writes x: so the weights of a whole layer
// are on their way at once. A block takes ROW_TILES times 16 rows, and its warps share out its groups of inputs; SPLITS
// blocks, a cluster, share out all groups. Sums of 128 products are scaled, added up in a warp, and then in the order
// of the groups: equal arguments give equal bits.

#include "fp8.cuh"
#include "mma.cuh"

constexpr int GROUP = 128;   // inputs that share a scale
constexpr int ROWS = 16;     // of weights in one product
constexpr int COLUMNS = 8;   // tokens in one product
constexpr int PITCH = 20;    // floats between a token's sums of 16 rows and the next one's: no bank conflicts
constexpr int BATCH = 4;     // groups of activations that half a warp loads before it rounds them
constexpr int THREADS = 32 * ROW_TILES * K_WARPS;
constexpr int NUM_GROUPS = INPUTS / GROUP;
constexpr int BLOCK_GROUPS = K_WARPS * UNITS;
constexpr int PARTS = ROW_TILES * TOKEN_TILES;           // 16 x 8 results each, of a cluster
constexpr int OWN_PARTS = (PARTS + SPLITS - 1) / SPLITS;  // that a block of the cluster sums up
constexpr bool HAS_ALL_GROUPS = SPLITS * BLOCK_GROUPS == NUM_GROUPS;
constexpr bool HAS_ALL_ROWS = OUTPUTS % (ROWS * ROW_TILES) == 0;
static_assert(INPUTS % GROUP == 0 && OUTPUTS % ROWS == 0 && SPLITS * BLOCK_GROUPS >= NUM_GROUPS);

__device__ __forceinline__ void unpack(uint first, uint second, uint (&pairs)[4]) {
  pairs[0] = fp16_pair(first & 0xffff), pairs[1] = fp16_pair(first >> 16);
  pairs[2] = fp16_pair(second & 0xffff), pairs[3] = fp16_pair(second >> 16);
}

// Rounds the groups of the block to FP8. In a product lane 4 * g + t holds 16 inputs of token g as they lie in the
// weights' memory, from input 64 * half + 16 * t of the group: so they are stored by group, tile of tokens, half and
// half of that, token, t, 8 values each, and a warp reads 512 consecutive bytes.
__device__ __forceinline__ void round_activations(
    const __nv_bfloat16* x, int num_tokens, int first_group, uint4* values, float* scales) {
  constexpr int STEP = THREADS / 16;
  const int chunk = threadIdx.x % 16, half_warp = threadIdx.x / 16;
  const int num_items = num_tokens * BLOCK_GROUPS;
#pragma unroll 1
  for (int begin = 0; begin < num_items; begin += BATCH * STEP) {
    uint4 loaded[BATCH];
#pragma unroll
    for (int i = 0; i < BATCH; ++i) {
      const int item = begin + i * STEP + half_warp, token = item / BLOCK_GROUPS, group = item % BLOCK_GROUPS;
      loaded[i] = make_uint4(0, 0, 0, 0);
      if (item < num_items && (HAS_ALL_GROUPS || first_group + group < NUM_GROUPS))
        loaded[i] = __ldcg(
            reinterpret_cast<const uint4*>(x + token * INPUTS + (first_group + group) * GROUP) + chunk);
    }
#pragma unroll
    for (int i = 0; i < BATCH; ++i) {
      if (begin + i * STEP >= num_items) break;
      const int item = begin + i * STEP + half_warp, token = item / BLOCK_GROUPS, group = item % BLOCK_GROUPS;
      const uint4 v = loaded[i];
      float absmax = LEAST_ABSMAX;
      absmax = larger_of(larger_of(larger_of(larger_of(absmax, v.x), v.y), v.z), v.w);
#pragma unroll
      for (int step = 8; step; step /= 2) absmax = fmaxf(absmax, __shfl_xor_sync(~0u, absmax, step));
      if (item >= num_items) continue;
      // The host's own rounding, to the bit: a product with a quotient that is not rounded correctly.
      const float factor = approximate_reciprocal(absmax) * E4M3_MAX;
      const int tile = token / COLUMNS, column = token % COLUMNS;
      const int quarter = chunk / 8 * 2 + chunk % 2;
      values[((group * TOKEN_TILES + tile) * 4 + quarter) * 32 + column * 4 + chunk / 2 % 4] =
          make_uint4(round_to_e4m3(v.x, factor), round_to_e4m3(v.y, factor), round_to_e4m3(v.z, factor),
                     round_to_e4m3(v.w, factor));
      if (chunk == 0) scales[group * (TOKEN_TILES * COLUMNS) + token] = absmax * (1.0f / E4M3_MAX);
    }
  }
}

extern "C" __global__ void __cluster_dims__(SPLITS, 1, 1) __launch_bounds__(THREADS) fp8_linear(
    const signed char* w,       // [OUTPUTS, INPUTS] e4m3
    const float* w_scale,       // [ceil(OUTPUTS / 128), INPUTS / 128]
    const __nv_bfloat16* x,     // [num_tokens, INPUTS]
    int num_tokens,             // 1 .. 8 * TOKEN_TILES, more than 8 * (TOKEN_TILES - 1)
    __nv_bfloat16* out) {       // out [num_tokens, OUTPUTS]
  extern __shared__ uint4 dynamic_shared[];
  uint4* values = dynamic_shared;                                    // [BLOCK_GROUPS][TOKEN_TILES][4][8][4]
  float* scales = reinterpret_cast<float*>(values + BLOCK_GROUPS * TOKEN_TILES * 128);  // [BLOCK_GROUPS][tokens]
  float* partial = scales + BLOCK_GROUPS * TOKEN_TILES * COLUMNS;    // [SPLITS * K_WARPS][OWN_PARTS][8][PITCH]
  const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32, g = lane / 4, t = lane % 4;
  const int tile = warp % ROW_TILES, k_warp = warp / ROW_TILES;
  const int rank = SPLITS > 1 ? rank_in_cluster() : 0;
  const int first_row = (blockIdx.x / SPLITS * ROW_TILES + tile) * ROWS;
  const int first_group = rank * BLOCK_GROUPS;
  auto has_unit = [&](int unit) {
    return (HAS_ALL_ROWS || first_row < OUTPUTS) &&
           (HAS_ALL_GROUPS || first_group + k_warp * UNITS + unit < NUM_GROUPS);
  };

  uint4 weights[UNITS][2][2];  // by unit, half of its inputs, and row g or g + 8
  float unit_scale[UNITS];
  const signed char* my_weights =
      w + static_cast<size_t>(first_row + g) * INPUTS + (first_group + k_warp * UNITS) * GROUP + t * 16;
  const float* my_scale = w_scale + first_row / GROUP * NUM_GROUPS + first_group + k_warp * UNITS;
#pragma unroll
  for (int unit = 0; unit < UNITS; ++unit) {
    if (!has_unit(unit)) continue;
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int lower = 0; lower < 2; ++lower)
        weights[unit][half][lower] = load_streamed(my_weights + lower * 8 * INPUTS + unit * GROUP + half * 64);
    unit_scale[unit] = load_constant(my_scale + unit);
  }
  __shared__ Barrier sums_are_here;  // those of all warps of the cluster, for the parts that this block sums up
  if (SPLITS > 1) {
    if (thread == 0) {
      int num_columns = 0;
      for (int part = rank; part < PARTS; part += SPLITS)
        num_columns += min(num_tokens - part % TOKEN_TILES * COLUMNS, COLUMNS);
      init_barrier(&sums_are_here);
      publish_barriers();
      arrive_and_expect(&sums_are_here, num_columns * ROWS * SPLITS * K_WARPS * static_cast<int>(sizeof(float)));
    }
    arrive_at_cluster();
  }
  wait_for_predecessor();
  let_successor_start();
  round_activations(x, num_tokens, first_group, values, scales);
  __syncthreads();

  float sum[TOKEN_TILES][4] = {};
#pragma unroll
  for (int unit = 0; unit < UNITS; ++unit) {
    if (!has_unit(unit)) continue;
    const int group = k_warp * UNITS + unit;
    float acc[TOKEN_TILES][4] = {};
#pragma unroll
    for (int quarter = 0; quarter < 4; ++quarter) {
      const uint4 above = weights[unit][quarter / 2][0], below = weights[unit][quarter / 2][1];
      uint upper[4], lower[4];
      unpack(quarter % 2 ? above.z : above.x, quarter % 2 ? above.w : above.y, upper);
      unpack(quarter % 2 ? below.z : below.x, quarter % 2 ? below.w : below.y, lower);
#pragma unroll
      for (int j = 0; j < TOKEN_TILES; ++j) {
        const int column = min(g, num_tokens - 1 - j * COLUMNS);  // columns beyond the last repeat it and are dropped
        multiply_fp16(acc[j], upper, lower, values[((group * TOKEN_TILES + j) * 4 + quarter) * 32 + column * 4 + t]);
      }
    }
#pragma unroll
    for (int j = 0; j < TOKEN_TILES; ++j) {
      const float2 of_tokens =
          *reinterpret_cast<const float2*>(scales + (group * TOKEN_TILES + j) * COLUMNS + 2 * t);
#pragma unroll
      for (int i = 0; i < 4; ++i)
        sum[j][i] = fmaf(unit_scale[unit] * (i % 2 ? of_tokens.y : of_tokens.x), acc[j][i], sum[j][i]);
    }
  }

  // Lane 4 * g + t has rows g (sum[0..1]) and g + 8 (sum[2..3]) of tokens 2 * t and 2 * t + 1.
  if (SPLITS > 1) wait_for_cluster();  // until its blocks run, and expect the sums
#pragma unroll
  for (int j = 0; j < TOKEN_TILES; ++j) {
    const int part = tile * TOKEN_TILES + j;
    float* to = partial + ((rank * K_WARPS + k_warp) * OWN_PARTS + part / SPLITS) * (COLUMNS * PITCH) + g;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int token = 2 * t + i % 2, row = i / 2 * 8;
      if (j * COLUMNS + token >= num_tokens) continue;
      if (SPLITS > 1)
        store_remote(to + token * PITCH + row, &sums_are_here, part % SPLITS, sum[j][i]);
      else
        to[token * PITCH + row] = sum[j][i];
    }
  }
  if (SPLITS > 1)
    wait_for_senders(&sums_are_here);
  else
    __syncthreads();

#pragma unroll 1
  for (int i = thread; i < OWN_PARTS * COLUMNS * ROWS; i += THREADS) {
    const int own_part = i / (COLUMNS * ROWS), column = i / ROWS % COLUMNS, row_of_tile = i % ROWS;
    const int part = own_part * SPLITS + rank;
    const int token = part % TOKEN_TILES * COLUMNS + column;
    const int row = (blockIdx.x / SPLITS * ROW_TILES + part / TOKEN_TILES) * ROWS + row_of_tile;
    if (token >= num_tokens || part >= PARTS || row >= OUTPUTS) continue;
    const float* from = partial + own_part * (COLUMNS * PITCH) + column * PITCH + row_of_tile;
    float total = 0.0f;
#pragma unroll
    for (int slot = 0; slot < SPLITS * K_WARPS; ++slot) total += from[slot * OWN_PARTS * (COLUMNS * PITCH)];
    out[static_cast<size_t>(token) * OUTPUTS + row] = __float2bfloat16_rn(total);
  }
}

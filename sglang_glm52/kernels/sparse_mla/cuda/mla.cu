// out = softmax(scale * q . k) . v over the slots of an FP8 cache that each token selected, for few heads.
//
// Heads are the columns of each product and keys or latents its rows, so that 8 heads fill it. A block takes a token,
// or a cluster of SPLITS blocks does, each with a share of its slots. The block's warps fetch tiles of keys into STAGES
// places of shared memory, score 16 keys two by two (scores.cuh), meet, and then sum up the values of all keys of the
// tile, each warp for latents of its own (values.cuh). All warps meet once in a tile: a tile's place is filled again
// after the next tile's meeting, when all have left it. At the end blocks of a cluster send each other their sums,
// which are added in the blocks' order: equal arguments give equal bits.

#include "scores.cuh"
#include "values.cuh"

// Each warp fetches keys of its own, each in one piece. A place without a slot takes another slot's key, so that it
// holds numbers, whose weight is zero.
__device__ __forceinline__ void fetch_tile(
    Byte* tile, Barrier* is_here, const Byte* cache, const int* slots, int other_slot, const Lane& at) {
  if (threadIdx.x == 0) arrive_and_expect(is_here, TILE * SLOT_BYTES);
  if (at.lane >= OWN_KEYS) return;
  const int key = at.warp * OWN_KEYS + at.lane, slot = slots[key] < 0 ? other_slot : slots[key];
  copy_bulk(tile + key * SLOT_BYTES, cache + static_cast<size_t>(slot) * SLOT_BYTES, SLOT_BYTES, is_here);
}

struct Selection {
  int num_tiles;   // up to the last slot
  int other_slot;  // one of the selected
};

// Slots of this block into shared memory, -1 for those that the cache has not; `scratch` is [2][WARPS]. Threads meet.
__device__ __forceinline__ Selection load_slots(
    int* slots, const int* selected, int num_slots, int* scratch, const Lane& at) {
  int last = -1, slot = -1;
#pragma unroll
  for (int place = 4 * threadIdx.x; place < SPLIT_TOPK; place += 4 * THREADS) {
    const int4 four = *reinterpret_cast<const int4*>(selected + place);
    int each[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (each[j] < 0 || each[j] >= num_slots) each[j] = -1;
      if (each[j] >= 0) last = place + j;
      slot = max(slot, each[j]);
    }
    *reinterpret_cast<int4*>(slots + place) = make_int4(each[0], each[1], each[2], each[3]);
  }
  last = __reduce_max_sync(~0u, last), slot = __reduce_max_sync(~0u, slot);
  if (at.lane == 0) scratch[at.warp] = last, scratch[WARPS + at.warp] = slot;
  __syncthreads();
#pragma unroll
  for (int warp = 0; warp < WARPS; ++warp) last = max(last, scratch[warp]), slot = max(slot, scratch[WARPS + warp]);
  return {(last + TILE) / TILE, slot};
}

// Totals of head g of each tile of heads, over all keys of the block. All threads meet.
__device__ __forceinline__ void share_totals(Total (&total)[HEAD_TILES], float2* sums, const Lane& at) {
#pragma unroll
  for (int n = 0; n < HEAD_TILES; ++n) {
#pragma unroll
    for (int step = 1; step < 4; step *= 2)
      total[n].add({__shfl_xor_sync(~0u, total[n].largest, step), __shfl_xor_sync(~0u, total[n].sum, step)});
    if (at.t == 0) sums[at.warp * PADDED_HEADS + n * COLUMNS + at.g] = make_float2(total[n].largest, total[n].sum);
  }
  __syncthreads();
#pragma unroll
  for (int n = 0; n < HEAD_TILES; ++n) {
    total[n] = Total();
#pragma unroll
    for (int warp = 0; warp < WARPS; ++warp) {
      const float2 other = sums[warp * PADDED_HEADS + n * COLUMNS + at.g];
      total[n].add({other.x, other.y});
    }
  }
}

__device__ __forceinline__ uint round_to_bf16(float low, float high) {
  const __nv_bfloat162_raw pair = __floats2bfloat162_rn(low, high);
  return pair.x | static_cast<uint>(pair.y) << 16;
}

// A block that has its token alone: values divided by totals.
__device__ __forceinline__ void write_values(
    __nv_bfloat16* out, const Values& v, const Total (&total)[HEAD_TILES], const Lane& at) {
#pragma unroll
  for (int n = 0; n < HEAD_TILES; ++n) {
    const float factor = total[n].sum > 0.0f ? exp2f(v.top[n] - total[n].largest) / total[n].sum : 0.0f;
#pragma unroll
    for (int column = 0; column < 2; ++column) {
      const float f = of_column(factor, at.t, column);
      const int head = n * COLUMNS + 2 * at.t + column;
      uint words[LANE_LATENTS / 2];
#pragma unroll
      for (int i = 0; i < LANE_LATENTS / 2; ++i)
        words[i] = round_to_bf16(v.sum[n][i][column] * f, v.sum[n][i][2 + column] * f);
      if (head >= HEADS) continue;
      auto* to = reinterpret_cast<uint4*>(
          out + head * LATENTS + at.warp * WARP_LATENTS + at.g * LANE_LATENTS);
#pragma unroll
      for (int i = 0; i < LANE_LATENTS / 8; ++i)
        to[i] = make_uint4(words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3]);
    }
  }
}

// The token's outputs in order of head and latent are shared out evenly: each block gets its part of all blocks'
// values, `partial` [SPLITS][OWN_OUTPUTS], and their totals, `sums` [SPLITS][OWN_HEADS] (largest, sum, -, -).
__device__ __forceinline__ void send_values(
    float* partial, float4* sums, Barrier* all_here, const Values& v, const Total (&total)[HEAD_TILES], int rank,
    const Lane& at) {
#pragma unroll
  for (int n = 0; n < HEAD_TILES; ++n) {
    const float factor = exp2f(v.top[n] - total[n].largest);
#pragma unroll
    for (int column = 0; column < 2; ++column) {
      const float f = of_column(factor, at.t, column);
      const int head = n * COLUMNS + 2 * at.t + column;
      if (head >= HEADS) continue;
      const int first = head * LATENTS + at.warp * WARP_LATENTS + at.g * LANE_LATENTS;
      auto* to = reinterpret_cast<float4*>(partial + rank * OWN_OUTPUTS + first % OWN_OUTPUTS);
#pragma unroll
      for (int i = 0; i < LANE_LATENTS / 4; ++i) {
        const float(&low)[4] = v.sum[n][2 * i], (&high)[4] = v.sum[n][2 * i + 1];
        store_remote(to + i, all_here, first / OWN_OUTPUTS,
                     make_float4(low[column] * f, low[2 + column] * f, high[column] * f, high[2 + column] * f));
      }
    }
    const int head = n * COLUMNS + at.g;
    if (at.warp || at.t || head >= HEADS) continue;
#pragma unroll
    for (int first = head * LATENTS; first < (head + 1) * LATENTS; first += OWN_OUTPUTS)
      store_remote(sums + rank * OWN_HEADS + first % OWN_OUTPUTS / LATENTS, all_here, first / OWN_OUTPUTS,
                   make_float4(total[n].largest, total[n].sum, 0.0f, 0.0f));
  }
}

__device__ __forceinline__ void write_sums(__nv_bfloat16* out, const float* partial, const float4* sums, int rank) {
  for (int first = 4 * threadIdx.x; first < OWN_OUTPUTS; first += 4 * THREADS) {
    const float4* of_head = sums + first / LATENTS;
    float largest = NO_EXPONENT, total = 0.0f;
#pragma unroll
    for (int block = 0; block < SPLITS; ++block) largest = fmaxf(largest, of_head[block * OWN_HEADS].x);
    float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
    for (int block = 0; block < SPLITS; ++block) {
      const float4 values = *reinterpret_cast<const float4*>(partial + block * OWN_OUTPUTS + first);
      const float factor = exp2_approximate(of_head[block * OWN_HEADS].x - largest);
      total += factor * of_head[block * OWN_HEADS].y;
      sum.x += factor * values.x, sum.y += factor * values.y, sum.z += factor * values.z, sum.w += factor * values.w;
    }
    const float f = total > 0.0f ? 1.0f / total : 0.0f;
    *reinterpret_cast<uint2*>(out + rank * OWN_OUTPUTS + first) =
        make_uint2(round_to_bf16(sum.x * f, sum.y * f), round_to_bf16(sum.z * f, sum.w * f));
  }
}

extern "C" __global__ void __cluster_dims__(SPLITS, 1, 1) __launch_bounds__(THREADS, RESIDENT) sparse_mla(
    const __nv_bfloat16* latents, int latents_token_stride, int latents_head_stride,  // [tokens, HEADS, 512]
    const __nv_bfloat16* rope, int rope_token_stride, int rope_head_stride,           // [tokens, HEADS, 64]
    const Byte* cache, int num_slots,                                                 // [num_slots, 656]
    const int* selected,                                                              // [tokens, TOPK]
    float scale,                                                                      // times log2(e)
    __nv_bfloat16* out) {                                                             // [tokens, HEADS, 512]
  extern __shared__ uint4 dynamic_shared[];
  Byte* shared = reinterpret_cast<Byte*>(dynamic_shared);
  Barrier* is_here = reinterpret_cast<Barrier*>(shared);  // [STAGES]
  Barrier* all_here = is_here + STAGES;                   // of the cluster's sums
  Byte* stages = shared + STAGES_AT;                      // [STAGES][TILE][SLOT_BYTES]
  float* scores = reinterpret_cast<float*>(shared + SCORES_AT);          // [2][PARTS][PADDED_HEADS][PITCH]
  float* log_scales = reinterpret_cast<float*>(shared + LOG_SCALES_AT);  // [2][GROUPS][TILE]
  int* slots = reinterpret_cast<int*>(shared + SLOTS_AT);                // [SPLIT_TOPK]
  float2* sums = reinterpret_cast<float2*>(shared + SUMS_AT);            // [WARPS][PADDED_HEADS]
  float* partial = reinterpret_cast<float*>(shared + PARTIAL_AT);
  float4* partial_sums = reinterpret_cast<float4*>(shared + PARTIAL_SUMS_AT);

  const Lane at;
  const int rank = SPLITS > 1 ? rank_in_cluster() : 0;
  const size_t token = blockIdx.x / SPLITS;
  const int part = at.warp % PARTS, first_key = at.warp / PARTS * KEYS;
  if (threadIdx.x == 0) {
#pragma unroll
    for (int stage = 0; stage < STAGES; ++stage) init_barrier(is_here + stage);
    if (SPLITS > 1) init_barrier(all_here);
    publish_barriers();
    if (SPLITS > 1) arrive_and_expect(all_here, SPLITS * (OWN_OUTPUTS * 4 + OWN_HEADS * 16));
  }
  if (SPLITS > 1) arrive_at_cluster();
  wait_for_predecessor();
  let_successor_start();

  const Selection selection = load_slots(
      slots, selected + token * TOPK + rank * SPLIT_TOPK, num_slots, reinterpret_cast<int*>(shared + SCRATCH_AT), at);
  auto fetch = [&](int tile) {
    const int stage = tile % STAGES;
    if (tile < selection.num_tiles)
      fetch_tile(stages + stage * TILE * SLOT_BYTES, is_here + stage, cache, slots + tile * TILE, selection.other_slot,
                 at);
  };
#pragma unroll
  for (int tile = 0; tile < STAGES; ++tile) fetch(tile);
  Query q;
  load_query(q, {latents + token * latents_token_stride, latents_head_stride},
             {rope + token * rope_token_stride, rope_head_stride}, part, scale, at);

  Values v;
  Total total[HEAD_TILES];
#pragma unroll
  for (int n = 0; n < HEAD_TILES; ++n) v.top[n] = NO_EXPONENT;
#pragma unroll 1
  for (int tile = 0; tile < selection.num_tiles; ++tile) {
    const int stage = tile % STAGES;
    const Byte* keys = stages + stage * TILE * SLOT_BYTES;
    float* tile_scores = scores + tile % 2 * SCORES;
    float* tile_log_scales = log_scales + tile % 2 * (GROUPS * TILE);
    wait_for_phase(is_here + stage, tile / STAGES);
    score_keys(q, keys, slots + tile * TILE, part, first_key, tile_scores, tile_log_scales, at);
    __syncthreads();
    if (tile > 0) fetch(tile - 1 + STAGES);
    uint weights[HEAD_TILES][STEPS][2];
    add_totals(total, tile_scores, at);
    weigh_keys(weights, v, tile_scores, tile_log_scales, at);
    add_values(v, keys, weights, at);
  }

  share_totals(total, sums, at);
  if constexpr (SPLITS == 1) {
    write_values(out + token * (HEADS * LATENTS), v, total, at);
  } else {
    wait_for_cluster();  // until its blocks run, and expect the sums
    send_values(partial, partial_sums, all_here, v, total, rank, at);
    wait_for_senders(all_here);
    write_sums(out + token * (HEADS * LATENTS), partial, partial_sums, rank);
  }
}

// From the projection of a layer's input to what q_b reads and what the KV pool keeps. Macros: Q_RANK, KV_RANK, ROPE.
//
// A block is a token. Its first warp norms the query's latent; the second norms the latent of keys and values, rounds
// groups of 128 to e4m3 and stores them and their scales; the third turns the rotary part and stores it. The first takes
// longest, with a chain of 64 sums that keeps the host's order, but with more warps for its results it is slower.

#include "rows.cuh"

constexpr int GROUP_LANES = 128 / PER_LOAD;              // that hold a group
constexpr int NUM_GROUPS = KV_RANK / 128;
constexpr int ROPE_BYTE = KV_RANK + 4 * NUM_GROUPS;      // of a slot, where its rotary part starts
constexpr int SLOT_BYTES = ROPE_BYTE + 2 * ROPE;
static_assert(Q_RANK % PER_ROUND == 0 && KV_RANK % PER_ROUND == 0 && ROPE == 2 * LANES);

__device__ __forceinline__ void norm_query(
    const __nv_bfloat16* row, const __nv_bfloat16* weight, float eps, __nv_bfloat16* out, int lane) {
  constexpr int ROUNDS = Q_RANK / PER_ROUND;
  uint4 weights[ROUNDS], values[ROUNDS];
  load_row(weights, weight, lane);
  take_turn();
  load_row(values, row, lane);
  const float factor = inverse_rms(values, eps);
#pragma unroll
  for (int i = 0; i < ROUNDS; ++i)
    reinterpret_cast<uint4*>(out + i * PER_ROUND)[lane] = scaled(values[i], weights[i], factor);
}

__device__ __forceinline__ void store_latent(
    const __nv_bfloat16* row, const __nv_bfloat16* weight, float eps, const int64* slot, unsigned char* pool,
    int lane) {
  constexpr int ROUNDS = KV_RANK / PER_ROUND;
  uint4 weights[ROUNDS], values[ROUNDS];
  load_row(weights, weight, lane);
  take_turn();
  load_row(values, row, lane);
  unsigned char* to = pool + __ldcg(slot) * SLOT_BYTES;
  const float factor = inverse_rms(values, eps);
#pragma unroll
  for (int i = 0; i < ROUNDS; ++i) {
    const uint4 normed = scaled(values[i], weights[i], factor);
    float absmax = 0.0f;
#pragma unroll
    for (int j = 0; j < 4; ++j)
      absmax = fmaxf(absmax, fmaxf(fabsf(lower_bf16(word(normed, j))), fabsf(upper_bf16(word(normed, j)))));
    const float scale = approximate_quotient(largest_over(GROUP_LANES, absmax), E4M3_MAX);
    const float inv_scale = approximate_quotient(1.0f, scale);
    uint pairs[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float low = __fmul_rn(lower_bf16(word(normed, j)), inv_scale);
      const float high = __fmul_rn(upper_bf16(word(normed, j)), inv_scale);
      pairs[j] = e4m3_pair(clamp_magnitude(low, E4M3_MAX), clamp_magnitude(high, E4M3_MAX));
    }
    reinterpret_cast<uint2*>(to + i * PER_ROUND)[lane] =
        make_uint2(pairs[0] | pairs[1] << 16, pairs[2] | pairs[3] << 16);
    if (lane % GROUP_LANES == 0)
      reinterpret_cast<float*>(to + KV_RANK)[i * (LANES / GROUP_LANES) + lane / GROUP_LANES] = scale;
  }
}

__device__ __forceinline__ void store_rotary_part(
    const __nv_bfloat16* row, const int64* position, const float* cos_sin, const int64* slot, unsigned char* pool,
    int lane) {
  take_turn();
  const uint pair = __ldcg(reinterpret_cast<const uint*>(row) + lane);
  const float* angles = cos_sin + __ldcg(position) * ROPE;
  unsigned char* to = pool + __ldcg(slot) * SLOT_BYTES + ROPE_BYTE;
  reinterpret_cast<uint*>(to)[lane] = rotated(pair, __ldg(angles + lane), __ldg(angles + LANES + lane));
}

extern "C" __global__ void __launch_bounds__(3 * LANES) mla_prologue(
    const __nv_bfloat16* latent,     // [num_tokens, Q_RANK + KV_RANK + ROPE], rows `row_stride` apart
    int row_stride,
    const __nv_bfloat16* q_weight,   // [Q_RANK]
    const __nv_bfloat16* kv_weight,  // [KV_RANK]
    float eps,
    const int64* positions,          // [num_tokens]
    const float* cos_sin,            // [num_positions, ROPE], cosines first
    const int64* slots,              // [num_tokens]
    unsigned char* pool,             // out [num_slots, SLOT_BYTES]
    __nv_bfloat16* q) {              // out [num_tokens, Q_RANK]
  const int token = blockIdx.x, warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
  const __nv_bfloat16* row = latent + static_cast<int64>(token) * row_stride;
  if (warp == 0)
    norm_query(row, q_weight, eps, q + static_cast<int64>(token) * Q_RANK, lane);
  else if (warp == 1)
    store_latent(row + Q_RANK, kv_weight, eps, slots + token, pool, lane);
  else
    store_rotary_part(row + Q_RANK + KV_RANK, positions + token, cos_sin, slots + token, pool, lane);
}

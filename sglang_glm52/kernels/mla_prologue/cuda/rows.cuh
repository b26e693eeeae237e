// What a warp does with a row of bf16 numbers. Orders of sums, fused multiplications and roundings are those of the
// host's kernels, so that results are the host's to the bit.

#pragma once

#include "device.cuh"

constexpr int LANES = 32;
constexpr uint ALL = ~0u;
constexpr int PER_LOAD = 8;                  // bf16 numbers in 16 bytes
constexpr int PER_ROUND = LANES * PER_LOAD;  // that a warp loads at once
constexpr float E4M3_MAX = 448.0f;

__device__ __forceinline__ float sum_over_warp(float v) {
#pragma unroll
  for (int step = 1; step < LANES; step *= 2) v = __fadd_rn(v, __shfl_xor_sync(ALL, v, step));
  return v;
}

// Of groups of `lanes` neighbours.
__device__ __forceinline__ float largest_over(int lanes, float v) {
#pragma unroll
  for (int step = 1; step < lanes; step *= 2) v = fmaxf(v, __shfl_xor_sync(ALL, v, step));
  return v;
}

// Lane l gets numbers 8 l to 8 l + 7 of each 256.
template <int ROUNDS>
__device__ __forceinline__ void load_row(uint4 (&values)[ROUNDS], const __nv_bfloat16* row, int lane) {
#pragma unroll
  for (int i = 0; i < ROUNDS; ++i)
    values[i] = __ldcg(reinterpret_cast<const uint4*>(row + i * PER_ROUND) + lane);
}

__device__ __forceinline__ uint word(const uint4& v, int i) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; }

// 1 / sqrt(mean of squares + eps); each lane's squares are summed one after the other.
template <int ROUNDS>
__device__ __forceinline__ float inverse_rms(const uint4 (&values)[ROUNDS], float eps) {
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < ROUNDS; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float low = lower_bf16(word(values[i], j)), high = upper_bf16(word(values[i], j));
      sum = fmaf(high, high, fmaf(low, low, sum));
    }
  return approximate_rsqrt(fmaf(sum_over_warp(sum), 1.0f / (ROUNDS * PER_ROUND), eps));
}

__device__ __forceinline__ uint scaled_pair(uint pair, uint weights, float factor) {
  return bf16_pair(__fmul_rn(__fmul_rn(lower_bf16(pair), factor), lower_bf16(weights)),
                   __fmul_rn(__fmul_rn(upper_bf16(pair), factor), upper_bf16(weights)));
}

__device__ __forceinline__ uint4 scaled(const uint4& v, const uint4& weights, float factor) {
  return make_uint4(scaled_pair(v.x, weights.x, factor), scaled_pair(v.y, weights.y, factor),
                    scaled_pair(v.z, weights.z, factor), scaled_pair(v.w, weights.w, factor));
}

// Turns a pair of neighbours by their angle.
__device__ __forceinline__ uint rotated(uint pair, float cosine, float sine) {
  const float x = lower_bf16(pair), y = upper_bf16(pair);
  return bf16_pair(fmaf(x, cosine, -__fmul_rn(y, sine)), fmaf(y, cosine, __fmul_rn(x, sine)));
}

// From an indexer's projections to what its scores are computed of. Macros: HEADS, PAGE.
//
// A warp is a head of the query or, the last of a token, the key; a lane has four neighbours of its 128 numbers. The
// key is normed; then the first 64 numbers are turned, all go through a Hadamard transform, which leaves dot products
// alone and evens numbers out, and are rounded to e4m3. Each step ends in bf16, as a kernel of the host's does.

#include "rows.cuh"

constexpr int WARPS = 4;
constexpr int DIM = 128, ROPE = 64, PER_LANE = DIM / LANES;
constexpr float LEAST_ABSMAX = 1e-4f;                  // so that zeros have a scale
constexpr float ROOT_OF_DIM = 0.08838834764831845f;    // 128^-0.5
constexpr int PAGE_BYTES = PAGE * (DIM + 4);           // keys of a page, then their scales

using Four = float[PER_LANE];

__device__ __forceinline__ void unpack(Four& v, uint2 pairs) {
  v[0] = lower_bf16(pairs.x), v[1] = upper_bf16(pairs.x), v[2] = lower_bf16(pairs.y), v[3] = upper_bf16(pairs.y);
}

__device__ __forceinline__ uint2 rounded(const Four& v) {
  return make_uint2(bf16_pair(v[0], v[1]), bf16_pair(v[2], v[3]));
}

// (v - mean) / deviation * weight + bias, the row's mean and deviation.
__device__ __forceinline__ uint2 normed(uint2 pairs, float4 weight, float4 bias, float eps) {
  Four v;
  unpack(v, pairs);
  const float sum = __fadd_rn(__fadd_rn(__fadd_rn(v[0], v[1]), v[2]), v[3]);
  const float mean = __fmul_rn(sum_over_warp(sum), 1.0f / DIM);
  float squares = 0.0f;
#pragma unroll
  for (int i = 0; i < PER_LANE; ++i) {
    v[i] = __fsub_rn(v[i], mean);
    squares = fmaf(v[i], v[i], squares);
  }
  const float factor = approximate_rsqrt(fmaf(sum_over_warp(squares), 1.0f / DIM, eps));
  v[0] = fmaf(__fmul_rn(v[0], factor), weight.x, bias.x), v[1] = fmaf(__fmul_rn(v[1], factor), weight.y, bias.y);
  v[2] = fmaf(__fmul_rn(v[2], factor), weight.z, bias.z), v[3] = fmaf(__fmul_rn(v[3], factor), weight.w, bias.w);
  return rounded(v);
}

// Sums and differences of numbers 1, 2, 4, ... 64 places apart, in this order.
__device__ __forceinline__ uint2 transformed(uint2 pairs, int lane) {
  Four v;
  unpack(v, pairs);
#pragma unroll
  for (int stride = 1; stride < PER_LANE; stride *= 2)
#pragma unroll
    for (int i = 0; i < PER_LANE; ++i)
      if (!(i & stride)) {
        const float a = v[i], b = v[i + stride];
        v[i] = __fadd_rn(a, b), v[i + stride] = __fsub_rn(a, b);
      }
#pragma unroll
  for (int step = 1; step < LANES; step *= 2)
#pragma unroll
    for (int i = 0; i < PER_LANE; ++i) {
      const float other = __shfl_xor_sync(ALL, v[i], step);
      v[i] = lane & step ? __fsub_rn(other, v[i]) : __fadd_rn(v[i], other);
    }
#pragma unroll
  for (int i = 0; i < PER_LANE; ++i) v[i] = __fmul_rn(v[i], ROOT_OF_DIM);
  return rounded(v);
}

__device__ __forceinline__ float largest(const Four& v) {
  return largest_over(LANES, fmaxf(fmaxf(fabsf(v[0]), fabsf(v[1])), fmaxf(fabsf(v[2]), fabsf(v[3]))));
}

// Numbers times `inv_scale`, in e4m3.
__device__ __forceinline__ uint quantized(const Four& v, float inv_scale) {
  return e4m3_pair(__fmul_rn(v[0], inv_scale), __fmul_rn(v[1], inv_scale)) |
         e4m3_pair(__fmul_rn(v[2], inv_scale), __fmul_rn(v[3], inv_scale)) << 16;
}

extern "C" __global__ void __launch_bounds__(WARPS * LANES) index_prologue(
    const __nv_bfloat16* q,        // [num_tokens, HEADS, DIM]
    const __nv_bfloat16* k,        // [num_tokens, DIM]
    const float* gates,            // [num_tokens, HEADS]
    const float* norm_weight,      // [DIM]
    const float* norm_bias,        // [DIM]
    float eps,
    const int64* positions,        // [num_tokens]
    const float* cos_sin,          // [num_positions, ROPE], cosines first
    const int64* slots,            // [num_tokens]
    int num_tokens,
    float root_of_heads,           // HEADS^-0.5
    unsigned char* pages,          // out [num_pages, PAGE_BYTES]
    unsigned char* q_out,          // out [num_tokens, HEADS, DIM] e4m3
    float* weights) {              // out [num_tokens, HEADS]
  const int row = blockIdx.x * WARPS + threadIdx.x / LANES, lane = threadIdx.x % LANES;
  const int token = row / (HEADS + 1), head = row % (HEADS + 1);
  const bool is_key = head == HEADS;
  if (token >= num_tokens) return;
  float4 weight, bias;
  if (is_key) {
    weight = reinterpret_cast<const float4*>(norm_weight)[lane];
    bias = reinterpret_cast<const float4*>(norm_bias)[lane];
  }
  take_turn();
  const int q_row = token * HEADS + head;  // not of a key
  const __nv_bfloat16* from = is_key ? k + static_cast<int64>(token) * DIM : q + static_cast<int64>(q_row) * DIM;
  uint2 pairs = __ldcg(reinterpret_cast<const uint2*>(from) + lane);
  const int64 position = __ldcg(positions + token), slot = __ldcg(slots + token);
  const float gate = is_key ? 0.0f : __ldcg(gates + q_row);
  if (is_key) pairs = normed(pairs, weight, bias, eps);
  if (lane < ROPE / PER_LANE) {
    const float* angles = cos_sin + position * ROPE;
    const float2 cosines = __ldg(reinterpret_cast<const float2*>(angles) + lane);
    const float2 sines = __ldg(reinterpret_cast<const float2*>(angles + ROPE / 2) + lane);
    pairs = make_uint2(rotated(pairs.x, cosines.x, sines.x), rotated(pairs.y, cosines.y, sines.y));
  }
  __syncwarp();
  Four v;
  unpack(v, transformed(pairs, lane));
  const float absmax = fmaxf(largest(v), LEAST_ABSMAX);
  if (is_key) {
    const float scale = __fdiv_rn(absmax, E4M3_MAX);
    unsigned char* page = pages + slot / PAGE * PAGE_BYTES;
    reinterpret_cast<uint*>(page + slot % PAGE * DIM)[lane] = quantized(v, __fdiv_rn(1.0f, scale));
    if (lane == 0) reinterpret_cast<float*>(page + PAGE * DIM)[slot % PAGE] = scale;
  } else {
    const float exponent = ceilf(log2f(__fmul_rn(absmax, 1.0f / E4M3_MAX)));  // scales of queries are powers of two
    reinterpret_cast<uint*>(q_out + static_cast<int64>(q_row) * DIM)[lane] = quantized(v, exp2f(-exponent));
    if (lane == 0)
      weights[q_row] = __fmul_rn(__fmul_rn(__fmul_rn(gate, root_of_heads), exp2f(exponent)), ROOT_OF_DIM);
  }
}

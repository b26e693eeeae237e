// Scores: 16 keys (rows) times 8 heads (columns). Two warps share a key's numbers out, each with its part of the query
// in registers.
//
// Keys are e4m3, which fp16 holds exactly. So does fp16 hold a bf16 query, once its largest number is brought to
// 2^14..2^15 by a power of two: numbers down to 2^-28 of that one are exact, others off by 2^-39 of it at most.
// Products of 128 latents are summed in float32, below 2^15 * 448 * 128 in size, then multiplied by what the query was
// divided by, and by the key's scale: no step is larger than the score's own summands. Rotary numbers are bf16 on both
// sides.

#pragma once

#include "shape.cuh"

constexpr int FP16_EXPONENT = 14;    // of a query's largest number
constexpr int LEAST_EXPONENT = -100;  // of a query that is scaled by its size

struct Query {
  uint latents[HEAD_TILES][CHUNKS][8];
  uint rope[HEAD_TILES][4];
  float factor[HEAD_TILES][2];  // of columns: the softmax's, times what the fp16 numbers are to be multiplied by
  float rope_factor;
};

// One token of a tensor [tokens, HEADS, any].
struct Rows {
  const __nv_bfloat16* base;
  int head_stride;

  __device__ __forceinline__ const __nv_bfloat16* of_head(int head) const {
    return base + static_cast<size_t>(head) * head_stride;
  }
};

__device__ __forceinline__ float power_of_two(int exponent) { return __uint_as_float((exponent + 127) << 23); }

__device__ __forceinline__ uint larger_of_pair(uint largest, uint two_bf16) {
  return max(largest, max(two_bf16 & 0x7fffu, two_bf16 >> 16 & 0x7fffu));
}

__device__ __forceinline__ uint scaled_to_fp16(uint two_bf16, float factor) {
  return round_to_fp16(__uint_as_float(two_bf16 << 16) * factor, __uint_as_float(two_bf16 & 0xffff0000u) * factor);
}

// A lane has 16 consecutive latents of each chunk, 8 rotary numbers, of head g of each tile of heads.
__device__ __forceinline__ void load_query(
    Query& q, const Rows& latents, const Rows& rope, int part, float scale, const Lane& at) {
  q.rope_factor = scale;
#pragma unroll
  for (int n = 0; n < HEAD_TILES; ++n) {
    const int head = n * COLUMNS + at.g;
    const bool is_head = head < HEADS;
    uint largest = 0;
#pragma unroll
    for (int c = 0; c < CHUNKS; ++c) {
      const auto* from = reinterpret_cast<const uint4*>(
          latents.of_head(head) + (part * CHUNKS + c) * CHUNK + 16 * at.t);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const uint4 v = is_head ? from[half] : make_uint4(0, 0, 0, 0);
        uint* to = q.latents[n][c] + 4 * half;
        to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
        largest = larger_of_pair(larger_of_pair(larger_of_pair(larger_of_pair(largest, v.x), v.y), v.z), v.w);
      }
    }
    const auto* from = reinterpret_cast<const uint4*>(rope.of_head(head) + part * (ROPE / PARTS) + 8 * at.t);
    const uint4 v = is_head ? *from : make_uint4(0, 0, 0, 0);
    q.rope[n][0] = v.x, q.rope[n][1] = v.y, q.rope[n][2] = v.z, q.rope[n][3] = v.w;
    largest = max(largest, __shfl_xor_sync(~0u, largest, 1));
    largest = max(largest, __shfl_xor_sync(~0u, largest, 2));
    const int exponent = max(static_cast<int>(largest >> 7) - 127, LEAST_EXPONENT);
    const float up = power_of_two(FP16_EXPONENT - exponent);
#pragma unroll
    for (int c = 0; c < CHUNKS; ++c)
#pragma unroll
      for (int i = 0; i < 8; ++i) q.latents[n][c][i] = scaled_to_fp16(q.latents[n][c][i], up);
    const float factor = power_of_two(exponent - FP16_EXPONENT) * scale;
#pragma unroll
    for (int column = 0; column < 2; ++column) q.factor[n][column] = of_column(factor, at.t, column);
  }
}

__device__ __forceinline__ uint4 load_16_bytes(const Byte* from) { return *reinterpret_cast<const uint4*>(from); }

// Half of a group's scores, over 64 latents: `upper` and `lower` are 16 bytes of two rows, 4 for each product.
__device__ __forceinline__ void multiply_chunk(
    float (&acc)[HEAD_TILES][4], const uint4& upper, const uint4& lower, const Query& q, int chunk) {
  const uint of_upper[4] = {upper.x, upper.y, upper.z, upper.w}, of_lower[4] = {lower.x, lower.y, lower.z, lower.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    uint a[4];
    convert_e4m3(a[0], a[2], of_upper[i]);
    convert_e4m3(a[1], a[3], of_lower[i]);
#pragma unroll
    for (int n = 0; n < HEAD_TILES; ++n)
      multiply_fp16(acc[n], a[0], a[1], a[2], a[3], q.latents[n][chunk][2 * i], q.latents[n][chunk][2 * i + 1]);
  }
}

// This warp's part of the scores of its 16 keys, as exponents of two, into scores [PARTS][PADDED_HEADS][PITCH]: minus
// infinity for a place without a slot. And its part of the scales' logarithms, into log_scales [GROUPS][TILE].
__device__ __forceinline__ void score_keys(
    const Query& q, const Byte* tile, const int* slots, int part, int first_key, float* scores, float* log_scales,
    const Lane& at) {
  // Rows 2 * i and 2 * i + 1 of a product are keys i and i + 4, which lie 164 times 16 bytes apart: so 8 lanes that
  // read together read different banks.
  const int key = first_key + at.g / 2 + at.g % 2 * 4;
  const Byte *upper = tile + key * SLOT_BYTES, *lower = upper + 8 * SLOT_BYTES;
  float sum[HEAD_TILES][4] = {};
#pragma unroll
  for (int i = 0; i < CHUNKS / 2; ++i) {
    float acc[2][HEAD_TILES][4] = {};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int place = (part * CHUNKS + 2 * i + half) * CHUNK + 16 * at.t;
      multiply_chunk(acc[half], load_16_bytes(upper + place), load_16_bytes(lower + place), q, 2 * i + half);
    }
    const int scale_at = SCALES_AT + 4 * (part * (CHUNKS / 2) + i);
    const float of_upper = *reinterpret_cast<const float*>(upper + scale_at);
    const float of_lower = *reinterpret_cast<const float*>(lower + scale_at);
#pragma unroll
    for (int n = 0; n < HEAD_TILES; ++n)
#pragma unroll
      for (int j = 0; j < 4; ++j)
        sum[n][j] = fmaf((acc[0][n][j] + acc[1][n][j]) * q.factor[n][j % 2], j < 2 ? of_upper : of_lower, sum[n][j]);
  }
  float acc[HEAD_TILES][4] = {};
  const int rope_at = ROPE_AT + part * PART_ROPE_BYTES + 16 * at.t;
  const uint4 a = load_16_bytes(upper + rope_at), b = load_16_bytes(lower + rope_at);
#pragma unroll
  for (int n = 0; n < HEAD_TILES; ++n) {
    multiply_bf16(acc[n], a.x, b.x, a.y, b.y, q.rope[n][0], q.rope[n][1]);
    multiply_bf16(acc[n], a.z, b.z, a.w, b.w, q.rope[n][2], q.rope[n][3]);
  }
  scores += part * PADDED_HEADS * PITCH + key;
  const bool has_upper = slots[key] >= 0, has_lower = slots[key + 8] >= 0;
#pragma unroll
  for (int n = 0; n < HEAD_TILES; ++n)
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float score = fmaf(acc[n][j], q.rope_factor, sum[n][j]);
      const bool has = j < 2 ? has_upper : has_lower;
      scores[(n * COLUMNS + 2 * at.t + j % 2) * PITCH + j / 2 * 8] = has ? score : minus_infinity();
    }
  const int group = 2 * part + at.lane / KEYS, of_key = first_key + at.lane % KEYS;
  const float scale = *reinterpret_cast<const float*>(tile + of_key * SLOT_BYTES + SCALES_AT + 4 * group);
  log_scales[group * TILE + of_key] = log2_approximate(scale);
}

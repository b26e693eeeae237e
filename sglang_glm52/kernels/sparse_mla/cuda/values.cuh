// Values: each warp sums up its latents (rows), all of one group, times 8 heads (columns) over all keys of a tile.
//
// A key's weight is 2^score times its scale of the group, 2^(score + log2 scale): for each head and group these have a
// largest exponent of their own, `top`, and fp16 holds 2^(exponent - top). What lies 2^24 below the largest weight of
// its group is lost, whatever the scales are: as much as float32 sums lose. Weights are rounded to 11 bits. `top` grows
// only when weights would be above 2^8, so that sums are seldom multiplied again; 2^8 * 448 * keys is far from
// overflow.

#pragma once

#include "shape.cuh"

constexpr float NO_EXPONENT = -1e30f;  // below all others: 2^(it - any) is 0, and 2^(it - it) is 1
constexpr float SLACK = 8.0f;

struct Values {
  float sum[HEAD_TILES][LANE_LATENTS / 2][4] = {};  // latents 2 * i, 2 * i + 1 of the lane's own, of two heads each
  float top[HEAD_TILES];                            // of head g
};

// The sum of 2^score, times 2^-largest, over keys that one lane has seen.
struct Total {
  float largest = NO_EXPONENT, sum = 0.0f;

  __device__ __forceinline__ void add(Total other) {
    const float both = fmaxf(largest, other.largest);
    sum = sum * exp2_approximate(largest - both) + other.sum * exp2_approximate(other.largest - both);
    largest = both;
  }
};

__device__ __forceinline__ float2 load_pair(const float* from) { return *reinterpret_cast<const float2*>(from); }

// Scores of head `head` and keys `key`, `key` + 1 of a tile: the sum of two parts.
__device__ __forceinline__ float2 score_pair(const float* scores, int head, int key) {
  const float* from = scores + head * PITCH + key;
  const float2 one = load_pair(from), other = load_pair(from + PADDED_HEADS * PITCH);
  return make_float2(one.x + other.x, one.y + other.y);
}

// This warp's keys of a tile, of head g of each tile of heads: a lane takes one of four.
__device__ __forceinline__ void add_totals(Total (&total)[HEAD_TILES], const float* scores, const Lane& at) {
#pragma unroll
  for (int n = 0; n < HEAD_TILES; ++n) {
    float score[OWN_KEYS / 4], largest = total[n].largest;
#pragma unroll
    for (int i = 0; i < OWN_KEYS / 4; ++i) {
      const float* from = scores + (n * COLUMNS + at.g) * PITCH + at.warp * OWN_KEYS + 4 * i + at.t;
      score[i] = from[0] + from[PADDED_HEADS * PITCH];
      largest = fmaxf(largest, score[i]);
    }
    total[n].sum *= exp2_approximate(total[n].largest - largest);
#pragma unroll
    for (int i = 0; i < OWN_KEYS / 4; ++i) total[n].sum += exp2_approximate(score[i] - largest);
    total[n].largest = largest;
  }
}

// The weights of a tile as fp16: by tile of heads and 16 keys, keys 2 * t, 2 * t + 1 and those 8 further on, of head g.
__device__ __forceinline__ void weigh_keys(
    uint (&weights)[HEAD_TILES][STEPS][2], Values& v, const float* scores, const float* log_scales, const Lane& at) {
  log_scales += at.warp * WARP_LATENTS / GROUP * TILE;
#pragma unroll
  for (int n = 0; n < HEAD_TILES; ++n) {
    float2 exponent[STEPS][2];
    float largest = minus_infinity();
#pragma unroll
    for (int step = 0; step < STEPS; ++step)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int key = step * KEYS + half * 8 + 2 * at.t;
        const float2 score = score_pair(scores, n * COLUMNS + at.g, key), log_scale = load_pair(log_scales + key);
        exponent[step][half] = make_float2(score.x + log_scale.x, score.y + log_scale.y);
        largest = fmaxf(largest, fmaxf(exponent[step][half].x, exponent[step][half].y));
      }
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 2));
    const bool is_higher = largest > v.top[n] + SLACK;
    if (__any_sync(~0u, is_higher)) {
      const float factor = is_higher ? exp2_approximate(v.top[n] - largest) : 1.0f;
      if (is_higher) v.top[n] = largest;
      const float of_columns[2] = {of_column(factor, at.t, 0), of_column(factor, at.t, 1)};
#pragma unroll
      for (int i = 0; i < LANE_LATENTS / 2; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) v.sum[n][i][j] *= of_columns[j % 2];
    }
#pragma unroll
    for (int step = 0; step < STEPS; ++step)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        weights[n][step][half] = round_to_fp16(
            exp2_approximate(exponent[step][half].x - v.top[n]), exp2_approximate(exponent[step][half].y - v.top[n]));
  }
}

// `LANE_LATENTS` bytes of a key.
__device__ __forceinline__ void load_latents(uint (&words)[LANE_LATENTS / 4], const Byte* from) {
  if constexpr (LANE_LATENTS == 16) {
    const uint4 v = *reinterpret_cast<const uint4*>(from);
    words[0] = v.x, words[1] = v.y, words[2] = v.z, words[3] = v.w;
  } else {
    const uint2 v = *reinterpret_cast<const uint2*>(from);
    words[0] = v.x, words[1] = v.y;
  }
}

__device__ __forceinline__ void add_values(
    Values& v, const Byte* tile, const uint (&weights)[HEAD_TILES][STEPS][2], const Lane& at) {
  tile += 2 * at.t * SLOT_BYTES + at.warp * WARP_LATENTS + at.g * LANE_LATENTS;
#pragma unroll
  for (int step = 0; step < STEPS; ++step) {
    uint key[4][LANE_LATENTS / 4];  // of keys 2 * t, 2 * t + 1, 2 * t + 8 and 2 * t + 9
#pragma unroll
    for (int i = 0; i < 4; ++i) load_latents(key[i], tile + (step * KEYS + i / 2 * 8 + i % 2) * SLOT_BYTES);
#pragma unroll
    for (int word = 0; word < LANE_LATENTS / 4; ++word)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        // Two latents of a word, each of two keys: rows g and g + 8 of a product.
        const uint order = half ? 0x7362 : 0x5140;
        uint a[4];
        convert_e4m3(a[0], a[1], __byte_perm(key[0][word], key[1][word], order));
        convert_e4m3(a[2], a[3], __byte_perm(key[2][word], key[3][word], order));
#pragma unroll
        for (int n = 0; n < HEAD_TILES; ++n)
          multiply_fp16(v.sum[n][2 * word + half], a[0], a[1], a[2], a[3], weights[n][step][0], weights[n][step][1]);
      }
  }
}

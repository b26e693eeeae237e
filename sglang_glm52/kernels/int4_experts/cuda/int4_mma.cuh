// Matrix products of int4 weights, as a checkpoint packs them, and e4m3 activations kept as fp16.
//
// They are mma.m16n8k16 in fp16 with float32 sums: 16 weight rows times 8 tokens. int4 and e4m3 values are exact in
// fp16. In such a product lane 4 * g + t holds rows g and g + 8 of the weights and column g of the tokens, for inputs
// that only lanes of the same t must agree on. So a lane takes 32 inputs of a group of 128 as they lie in memory, 16
// bytes from byte 16 * t of the row's 64: word i of them holds inputs 8 * i + 0..7, which unpack to the pairs (0, 4),
// (1, 5), (2, 6), (3, 7). Activations are stored to match: see `position`.

#pragma once

#include <cuda_fp16.h>

#include "device.cuh"
#include "mma.cuh"

constexpr int GROUP = 128;  // inputs that share a scale
constexpr int COLUMNS = 8;  // tokens in one product
constexpr int ROWS = 16;    // weight rows in one product

__device__ __forceinline__ uint as_bits(__half2 v) { return *reinterpret_cast<uint*>(&v); }

__device__ __forceinline__ __half2 as_half2(uint v) { return *reinterpret_cast<__half2*>(&v); }

// (word & mask) ^ bits in one instruction, which the compiler does not find for two constants.
__device__ __forceinline__ uint and_xor(uint word, uint mask, uint bits) {
  uint v;
  asm("lop3.b32 %0, %1, %2, %3, 0x6a;" : "=r"(v) : "r"(word), "r"(mask), "r"(bits));
  return v;
}

// Eight two's complement nibbles -> fp16 pairs (0, 4), (1, 5), (2, 6), (3, 7). q ^ 8 = q + 8 below the exponent of 1024
// is 1032 + q; four bits higher it is 1024 + 16 * (q + 8).
__device__ __forceinline__ void unpack(uint word, uint (&pairs)[4]) {
  const __half2 offset = __float2half2_rn(1032.0f), sixteenth = __float2half2_rn(0.0625f);
  const __half2 high_offset = __float2half2_rn(-72.0f);
#pragma unroll
  for (int i = 0; i < 2; ++i, word >>= 8) {
    pairs[2 * i] = as_bits(__hsub2(as_half2(and_xor(word, 0x000f000fu, 0x64086408u)), offset));
    pairs[2 * i + 1] = as_bits(__hfma2(as_half2(and_xor(word, 0x00f000f0u, 0x64806480u)), sixteenth, high_offset));
  }
}

// Adds one group of 128 inputs. Lane 4 * g + t has rows g (acc[0..1]) and g + 8 (acc[2..3]) of tokens 2 * t, 2 * t + 1.
__device__ __forceinline__ void multiply_group(float (&acc)[4], uint4 upper, uint4 lower, const uint4 (&b)[4]) {
  const uint upper_words[4] = {upper.x, upper.y, upper.z, upper.w};
  const uint lower_words[4] = {lower.x, lower.y, lower.z, lower.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    uint upper_pairs[4], lower_pairs[4];
    unpack(upper_words[i], upper_pairs);
    unpack(lower_words[i], lower_pairs);
    multiply_fp16(acc, upper_pairs, lower_pairs, b[i]);
  }
}

// Where input k of a row of activations is stored, so that load i of lane t, of 8 values, is inputs 32 * t + 8 * i and
// the next 7 of the group, in the order of `unpack`, and the four lanes read 64 consecutive bytes of fp16.
__device__ __forceinline__ int position(int k) {
  const int chunk = k % GROUP / 8, j = k % 8;
  return k / GROUP * GROUP + (chunk % 4 * 4 + chunk / 4) * 8 + j % 4 * 2 + j / 4;
}

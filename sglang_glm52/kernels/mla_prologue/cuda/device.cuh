// Instructions that CUDA C++ has no name for.

#pragma once

#include <cuda_bf16.h>

#include "few_tokens.cuh"

using int64 = long long;

// a / b by a reciprocal that is not rounded correctly: Triton's `/`.
__device__ __forceinline__ float approximate_quotient(float a, float b) {
  float quotient;
  asm("div.full.f32 %0, %1, %2;" : "=f"(quotient) : "f"(a), "f"(b));
  return quotient;
}

// 1 / sqrt(v), or a number next to it.
__device__ __forceinline__ float approximate_rsqrt(float v) {
  float root;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(root) : "f"(v));
  return root;
}

// v within [-most, most]: Triton's `clamp`, which makes +-most of a NaN.
__device__ __forceinline__ float clamp_magnitude(float v, float most) {
  float clamped;
  asm("min.xorsign.abs.f32 %0, %1, %2;" : "=f"(clamped) : "f"(v), "f"(most));
  return clamped;
}

// Two e4m3 numbers, `low` in the lower byte; what is too large becomes the largest.
__device__ __forceinline__ uint e4m3_pair(float low, float high) {
  unsigned short pair;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(high), "f"(low));
  return pair;
}

__device__ __forceinline__ float lower_bf16(uint pair) { return __uint_as_float(pair << 16); }

__device__ __forceinline__ float upper_bf16(uint pair) { return __uint_as_float(pair & 0xffff0000u); }

// Two bf16 numbers, `low` in the lower half.
__device__ __forceinline__ uint bf16_pair(float low, float high) {
  const __nv_bfloat162_raw pair = __floats2bfloat162_rn(low, high);
  return pair.x | static_cast<uint>(pair.y) << 16;
}

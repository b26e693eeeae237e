// e4m3 values, which fp16 holds exactly: Hopper's mma.sync takes fp16, and the compiler turns its FP8 form into that.

#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include "device.cuh"

constexpr float E4M3_MAX = 448.0f;
constexpr float LEAST_ABSMAX = 1e-10f;  // of a group, so that zeros have a scale

__device__ __forceinline__ uint fp16_pair(uint two_e4m3) {
  const __half2_raw pair = __nv_cvt_fp8x2_to_halfraw2(static_cast<__nv_fp8x2_storage_t>(two_e4m3), __NV_E4M3);
  return pair.x | static_cast<uint>(pair.y) << 16;
}

// Two bf16 times `factor`, rounded to e4m3 (saturated), as fp16.
__device__ __forceinline__ uint round_to_e4m3(uint two_bf16, float factor) {
  const float low = __uint_as_float(two_bf16 << 16), high = __uint_as_float(two_bf16 & 0xffff0000u);
  return fp16_pair(__nv_cvt_float2_to_fp8x2(make_float2(low * factor, high * factor), __NV_SATFINITE, __NV_E4M3));
}

__device__ __forceinline__ float larger_of(float absmax, uint two_bf16) {
  const float low = __uint_as_float(two_bf16 << 16), high = __uint_as_float(two_bf16 & 0xffff0000u);
  return fmaxf(absmax, fmaxf(fabsf(low), fabsf(high)));
}

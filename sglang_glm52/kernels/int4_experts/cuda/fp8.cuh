// Rounding activations to FP8 (e4m3), whose values are then kept as fp16: exact, and what the matrix products read.

#pragma once

#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include "device.cuh"

constexpr float E4M3_MAX = 448.0f;

// value / scale as IEEE division rounds it: one Newton step from the rounded reciprocal. Exact rounding matters, for
// quotients of bf16 numbers often lie in the middle of two e4m3 values. Below 2^-100 it ends, but stays finite: such
// activations are lost in the products that follow anyway.
struct Divisor {
  float scale, reciprocal;

  __device__ explicit Divisor(float scale) : scale(scale), reciprocal(fminf(__frcp_rn(scale), 3.0e+38f)) {}

  __device__ float divide(float value) const {
    const float quotient = value * reciprocal;
    return fmaf(fmaf(-quotient, scale, value), reciprocal, quotient);
  }
};

// Two values rounded to e4m3 (saturated), as fp16.
__device__ __forceinline__ uint round_to_e4m3(float low, float high) {
  const __nv_fp8x2_storage_t q = __nv_cvt_float2_to_fp8x2(make_float2(low, high), __NV_SATFINITE, __NV_E4M3);
  const __half2_raw pair = __nv_cvt_fp8x2_to_halfraw2(q, __NV_E4M3);
  return pair.x | static_cast<uint>(pair.y) << 16;
}

__device__ __forceinline__ float scale_of(float absmax) {
  return absmax > 0.0f ? Divisor(E4M3_MAX).divide(absmax) : 1.0f;
}

__device__ __forceinline__ float low_of(uint pair) { return __uint_as_float(pair << 16); }  // of two bf16

__device__ __forceinline__ float high_of(uint pair) { return __uint_as_float(pair & 0xffff0000u); }

// The scale of a slot's h: one for all slots, if that is given.
__device__ __forceinline__ float scale_of_slot(const uint* absmax_h, const float* static_h, int slot) {
  return static_h ? *static_h : scale_of(__uint_as_float(__ldcg(absmax_h + slot)));
}

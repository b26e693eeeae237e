// Instructions that CUDA C++ has no name for.

#pragma once

#include "cluster.cuh"
#include "few_tokens.cuh"

// For what no kernel writes, like `load_streamed` in its place before a wait.
__device__ __forceinline__ float load_constant(const float* from) {
  float v;
  asm volatile("ld.global.f32 %0, [%1];" : "=f"(v) : "l"(from) : "memory");
  return v;
}

// 1 / v, or a number next to it; numbers too small to be normal count as zero.
__device__ __forceinline__ float approximate_reciprocal(float v) {
  float reciprocal;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(v));
  return reciprocal;
}

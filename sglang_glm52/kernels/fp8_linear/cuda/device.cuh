// Instructions that CUDA C++ has no name for.

#pragma once

#include "cluster.cuh"
#include "launch.cuh"

// Weights are read once: they pass the L1 cache by. They lie before a wait for the predecessor in the source, and stay
// there: ld.global.nc would let the assembler move them behind it.
__device__ __forceinline__ uint4 load_streamed(const void* from) {
  uint4 v;
  asm volatile("ld.global.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from) : "memory");
  return v;
}

// Also for what no kernel writes, and in its place.
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

// What kernels for a few tokens have in common: weights on their way before a kernel waits for the one ahead.

#pragma once

#include "launch.cuh"

// From here on the kernel may read what its predecessor wrote and write what that read, and its successor may start. Not
// earlier: kernels of others read what comes from two kernels ahead without waiting.
__device__ __forceinline__ void take_turn() {
  wait_for_predecessor();
  let_successor_start();
}

// Weights pass the L1 cache by; ld.global.nc would let the assembler move them behind the wait.
__device__ __forceinline__ uint4 load_streamed(const void* from) {
  uint4 v;
  asm volatile("ld.global.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from) : "memory");
  return v;
}

// Instructions that CUDA C++ has no name for.

#pragma once

#include <cuda_bf16.h>

#include "launch.cuh"
#include "shared_memory.cuh"

using bf16 = __nv_bfloat16;

// 16 bytes from global to shared memory, in the batch that `end_copy_batch` ends.
__device__ __forceinline__ void copy_async(uint to, const void* from) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}

__device__ __forceinline__ uint4 load_shared(uint from) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(from));
  return v;
}

__device__ __forceinline__ float load_shared_bf16(uint from) {
  unsigned short v;
  asm volatile("ld.shared.u16 %0, [%1];" : "=h"(v) : "r"(from));
  return __uint_as_float(static_cast<uint>(v) << 16);
}

__device__ __forceinline__ void end_copy_batch() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Until at most so many of this thread's batches are on their way.
template <int NUM_BATCHES_IN_FLIGHT>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(NUM_BATCHES_IN_FLIGHT) : "memory");
}

// Asks the L2 cache for `bytes`, a multiple of 16, from an address that is one too; nothing waits for them.
__device__ __forceinline__ void ask_l2(const void* from, uint bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(__cvta_generic_to_global(from)), "r"(bytes)
               : "memory");
}

// Weights are read once: they pass the L1 cache by.
__device__ __forceinline__ uint4 load_streamed(const void* from) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from));
  return v;
}

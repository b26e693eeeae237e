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

// A barrier in shared memory that opens once `store_remote` has written so many bytes to its block. By one thread,
// before it arrives at the cluster.
using ByteBarrier = unsigned long long;

__device__ __forceinline__ void expect_bytes(ByteBarrier* barrier, int bytes) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(barrier)) : "memory");
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
}

__device__ __forceinline__ void wait_for_bytes(ByteBarrier* barrier) {
  uint is_open;
  do {
    asm volatile(
        "{.reg .pred p; mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], 0; selp.u32 %0, 1, 0, p;}"
        : "=r"(is_open)
        : "r"(shared_address(barrier))
        : "memory");
  } while (!is_open);
}

// `v` to the place of `to` in another block of the cluster, whose `barrier` is told of the four bytes. It needs no
// fence, which a barrier of the cluster would: that takes longer than the sums.
__device__ __forceinline__ void store_remote(float* to, ByteBarrier* barrier, int block, float v) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(
                   remote_address(to, block)),
               "r"(__float_as_uint(v)), "r"(remote_address(barrier, block))
               : "memory");
}

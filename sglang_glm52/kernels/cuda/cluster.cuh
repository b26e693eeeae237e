// A cluster's blocks: where they meet without writing anything, and numbers that they send each other.

#pragma once

#include "shared_memory.cuh"

__device__ __forceinline__ int rank_in_cluster() {
  int rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

// The two halves of a barrier of all threads of a cluster, for writers of nothing: it waits for no loads.
__device__ __forceinline__ void arrive_at_cluster() {
  __syncwarp();  // `aligned` says that a warp's threads come together
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}

__device__ __forceinline__ void wait_for_cluster() {
  __syncwarp();
  asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
}

// A barrier in shared memory whose phases end when one thread has arrived, and all bytes that it announced have come.
using Barrier = unsigned long long;

__device__ __forceinline__ void init_barrier(Barrier* barrier) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(barrier)) : "memory");
}

// After the last `init_barrier`: for copies, and for other blocks of the cluster once they have met.
__device__ __forceinline__ void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void arrive_and_expect(Barrier* barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
}

// The first phase of a barrier that other blocks of the cluster send to.
__device__ __forceinline__ void wait_for_senders(Barrier* barrier) {
  uint is_over;
  do {
    asm volatile(
        "{.reg .pred p; mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], 0; selp.u32 %0, 1, 0, p;}"
        : "=r"(is_over)
        : "r"(shared_address(barrier))
        : "memory");
  } while (!is_over);
}

// `v` to the place of `to` in another block of the cluster, whose `barrier` is told of the four bytes. It needs no
// fence, which a barrier of the cluster would: that takes longer than the sums.
__device__ __forceinline__ void store_remote(float* to, Barrier* barrier, int block, float v) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(
                   remote_address(to, block)),
               "r"(__float_as_uint(v)), "r"(remote_address(barrier, block))
               : "memory");
}

// Two floats to a multiple of 8 bytes.
__device__ __forceinline__ void store_remote(float2* to, Barrier* barrier, int block, float2 v) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [%0], {%1, %2}, [%3];" ::"r"(
                   remote_address(to, block)),
               "r"(__float_as_uint(v.x)), "r"(__float_as_uint(v.y)), "r"(remote_address(barrier, block))
               : "memory");
}

// Four to a multiple of 16 bytes.
__device__ __forceinline__ void store_remote(float4* to, Barrier* barrier, int block, float4 v) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(
                   remote_address(to, block)),
               "r"(__float_as_uint(v.x)), "r"(__float_as_uint(v.y)), "r"(__float_as_uint(v.z)),
               "r"(__float_as_uint(v.w)), "r"(remote_address(barrier, block))
               : "memory");
}

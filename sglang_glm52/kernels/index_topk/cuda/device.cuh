// Instructions that CUDA C++ has no name for, and sums over a warp.
// Macros: THREADS.

#pragma once

#include "launch.cuh"
#include "shared_memory.cuh"

constexpr int WARPS = THREADS / 32;  // of a block

// Until all threads of the cluster's blocks that have not left are here; what they wrote is then seen by all.
__device__ __forceinline__ void sync_cluster() {
  __syncwarp();  // `aligned` says that a warp's threads come together
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

__device__ __forceinline__ uint load_remote(const uint* from, int block) {
  uint v;
  asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(v) : "r"(remote_address(from, block)) : "memory");
  return v;
}

__device__ __forceinline__ void store_remote(uint* to, int block, uint v) {
  asm volatile("st.shared::cluster.u32 [%0], %1;" ::"r"(remote_address(to, block)), "r"(v) : "memory");
}

__device__ __forceinline__ int lane_index() { return threadIdx.x % 32; }

__device__ __forceinline__ int warp_index() { return threadIdx.x / 32; }

// The sum of the lanes' values up to and with this lane's.
__device__ __forceinline__ uint running_sum(uint v) {
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const uint other = __shfl_up_sync(~0u, v, step);
    if (lane_index() >= step) v += other;
  }
  return v;
}

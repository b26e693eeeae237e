// A cluster's blocks, and where they meet without writing anything.

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

// Instructions that CUDA C++ has no name for, and sums over a warp.
// Macros: THREADS.

#pragma once

using uint = unsigned int;

constexpr int WARPS = THREADS / 32;  // of a block

// Programmatic dependent launch: a kernel may start while its predecessor runs, if all blocks of that have let it, and
// waits before it reads the predecessor's results or writes what that reads.
__device__ __forceinline__ void wait_for_predecessor() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

__device__ __forceinline__ void let_successor_start() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

// Until all threads of the cluster's blocks that have not left are here; what they wrote is then seen by all.
__device__ __forceinline__ void sync_cluster() {
  __syncwarp();  // `aligned` says that a warp's threads come together
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// The same place of shared memory in another block of the cluster.
__device__ __forceinline__ uint remote_address(const void* pointer, int block) {
  const uint own = static_cast<uint>(__cvta_generic_to_shared(pointer));
  uint remote;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(own), "r"(block));
  return remote;
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

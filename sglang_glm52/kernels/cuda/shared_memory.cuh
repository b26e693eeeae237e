// Places in shared memory, a block's own and those of the other blocks of its cluster.

#pragma once

using uint = unsigned int;

__device__ __forceinline__ uint shared_address(const void* pointer) {
  return static_cast<uint>(__cvta_generic_to_shared(pointer));
}

// The same place of shared memory in another block of the cluster.
__device__ __forceinline__ uint remote_address(const void* pointer, int block) {
  uint remote;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(shared_address(pointer)), "r"(block));
  return remote;
}

// Programmatic dependent launch: a kernel may start while its predecessor runs, if all blocks of that have let it, and
// waits before it reads the predecessor's results or writes what that reads.

#pragma once

using uint = unsigned int;

__device__ __forceinline__ void wait_for_predecessor() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

__device__ __forceinline__ void let_successor_start() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

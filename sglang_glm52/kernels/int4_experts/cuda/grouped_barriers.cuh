// Barriers in shared memory, and the ring of buffers that copying and computing threads hand to each other.

#pragma once

#include "device.cuh"

__device__ __forceinline__ void init_barrier(uint barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

__device__ __forceinline__ void arrive(uint barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// As soon as all copies that this thread has begun are there.
__device__ __forceinline__ void arrive_with_copies(uint barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}

// Until the phase of this parity is complete; at the start the one of parity 1 is.
__device__ __forceinline__ void wait(uint barrier, uint parity) {
  asm volatile(
      "{ .reg .pred done; again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1; @!done bra again; }" ::"r"(
          barrier),
      "r"(parity)
      : "memory");
}

// What `copy_async` has written is visible to the warpgroup's products.
__device__ __forceinline__ void show_to_products() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// A place in a ring of SIZE buffers. Each has a barrier that says it is full, and one that says it is free.
template <int SIZE>
struct Ring {
  static constexpr int BARRIER_BYTES = 2 * SIZE * 8;
  uint full, free;  // the barriers of buffer 0
  int index = 0;
  uint parity = 0;

  __device__ explicit Ring(uint barriers) : full(barriers), free(barriers + 8 * SIZE) {}

  __device__ __forceinline__ void init(int copying_threads, int computing_threads) const {
    for (int i = 0; i < SIZE; ++i) {
      init_barrier(full + 8 * i, copying_threads);
      init_barrier(free + 8 * i, computing_threads);
    }
  }
  __device__ __forceinline__ void next() {
    if (++index == SIZE) index = 0, parity ^= 1;
  }
  // Copying threads.
  __device__ __forceinline__ void wait_free() const { wait(free + 8 * index, parity ^ 1); }
  __device__ __forceinline__ void hand_over() const { arrive_with_copies(full + 8 * index); }
  // Computing threads: each arrives itself, so that racecheck can follow (tests/kernels/handover.cu).
  __device__ __forceinline__ void wait_full() const {
    wait(full + 8 * index, parity);
    show_to_products();
  }
  __device__ __forceinline__ void release() const { arrive(free + 8 * index); }
};

// Instructions that CUDA C++ has no name for.

#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cluster.cuh"
#include "launch.cuh"
#include "mma.cuh"

using Byte = unsigned char;

// Four e4m3 values as fp16, which holds them exactly.
__device__ __forceinline__ void convert_e4m3(uint& low_pair, uint& high_pair, uint four_e4m3) {
  asm("{.reg .b16 low, high; mov.b32 {low, high}, %2; cvt.rn.f16x2.e4m3x2 %0, low; cvt.rn.f16x2.e4m3x2 %1, high;}"
      : "=r"(low_pair), "=r"(high_pair)
      : "r"(four_e4m3));
}

// 2^v and log2(v), good to about 2^-22.
__device__ __forceinline__ float exp2_approximate(float v) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(v));
  return power;
}

__device__ __forceinline__ float log2_approximate(float v) {
  float exponent;
  asm("lg2.approx.f32 %0, %1;" : "=f"(exponent) : "f"(v));
  return exponent;
}

// Phases are counted from 0; it must be the one under way or the one before it.
__device__ __forceinline__ void wait_for_phase(Barrier* barrier, int phase) {
  uint is_over;
  do {
    asm volatile(
        "{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}"
        : "=r"(is_over)
        : "r"(shared_address(barrier)), "r"(phase & 1)
        : "memory");
  } while (!is_over);
}

// `bytes`, a multiple of 16, from global to shared memory; the barrier is told of them.
__device__ __forceinline__ void copy_bulk(Byte* to, const Byte* from, int bytes, Barrier* barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   shared_address(to)),
               "l"(from), "r"(bytes), "r"(shared_address(barrier))
               : "memory");
}

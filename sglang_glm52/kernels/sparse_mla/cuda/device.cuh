// Instructions that CUDA C++ has no name for.

#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cluster.cuh"
#include "launch.cuh"

using Byte = unsigned char;

// acc += 16 rows times 8 columns over 16 products; a and b are laid out as PTX says for m16n8k16.
__device__ __forceinline__ void multiply_fp16(float (&acc)[4], const uint (&a)[4], uint b0, uint b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void multiply_bf16(float (&acc)[4], uint a0, uint a1, uint a2, uint a3, uint b0, uint b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

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

// A barrier in shared memory whose phases end when all arrivals, and all bytes that they announced, have come.
using Barrier = unsigned long long;

__device__ __forceinline__ void init_barrier(Barrier* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}

// After the last `init_barrier`: for copies, and for other blocks of the cluster once they have met.
__device__ __forceinline__ void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void arrive_and_expect(Barrier* barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
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

// `bytes`, a multiple of 16, from global to shared memory; the barrier is told of them.
__device__ __forceinline__ void copy_bulk(Byte* to, const Byte* from, int bytes, Barrier* barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   shared_address(to)),
               "l"(from), "r"(bytes), "r"(shared_address(barrier))
               : "memory");
}

// `v` to the place of `to` in another block of the cluster, whose `barrier` is told of the 16 bytes.
__device__ __forceinline__ void store_remote(float4* to, Barrier* barrier, int block, float4 v) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(
                   remote_address(to, block)),
               "r"(__float_as_uint(v.x)), "r"(__float_as_uint(v.y)), "r"(__float_as_uint(v.z)),
               "r"(__float_as_uint(v.w)), "r"(remote_address(barrier, block))
               : "memory");
}

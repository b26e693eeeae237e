// One group of 128 inputs: int4 weights from shared memory through registers, FP8 activations from shared memory.
//
// Weights are decoded to (v + 8) / 512 as in `grouped_gemm.py`, which also says where the offset goes. Groups are added
// in float32.

#pragma once

#include "grouped_wgmma.cuh"

constexpr int GROUP = 128;                     // inputs with one scale a row
constexpr int ROWS = 128;                      // of weights in a block, 64 of each computing warpgroup
constexpr int COPYING = 128, COMPUTING = 256;  // threads
constexpr int COPYING_REGISTERS = 56, COMPUTING_REGISTERS = 224;
constexpr int PIECE = 16;                        // bytes that a thread copies at once
constexpr int VALUES_BYTES = PLACES * GROUP;     // one group of activations: rows as `describe_b` has them
constexpr int WEIGHTS_BYTES = ROWS * GROUP / 2;  // one group of weights: rows of 64 bytes, piece p at p ^ row / 2 % 4

__device__ __forceinline__ uint load_shared_u16(uint from) {
  unsigned short v;
  asm volatile("ld.shared.u16 %0, [%1];" : "=h"(v) : "r"(from));
  return v;
}

__device__ __forceinline__ float load_shared_float(uint from) {
  float v;
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(v) : "r"(from));
  return v;
}

__device__ __forceinline__ void copy_word_async(uint to, const void* from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from) : "memory");
}

// From a row behind `from`. The address is not for the compiler to know: kept for each row, it would take registers.
__device__ __forceinline__ void copy_row_async(uint to, const void* from, uint row, uint row_bytes) {
  asm volatile(
      "{ .reg .u64 at; mad.wide.u32 at, %2, %3, %1; cp.async.cg.shared.global.L2::128B [%0], [at], 16; }" ::"r"(to),
      "l"(from), "r"(row), "r"(row_bytes)
      : "memory");
}

// Weights are read once: they leave the L2 cache first.
__device__ __forceinline__ unsigned long long read_once_policy() {
  unsigned long long policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

__device__ __forceinline__ void copy_once_async(uint to, const void* from, unsigned long long policy) {
  asm volatile("cp.async.cg.shared.global.L2::cache_hint.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "l"(policy)
               : "memory");
}

// How many registers each thread of a warpgroup has from here on.
template <int REGISTERS>
__device__ __forceinline__ void shrink_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

template <int REGISTERS>
__device__ __forceinline__ void grow_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

// One group of a warp's 16 rows. The low nibbles are the first 64 inputs, the high ones the last.
struct PackedRows {
  uint words[8];

  __device__ __forceinline__ void load(uint weights, int first_row) {
    const int lane = threadIdx.x % 32, row = first_row + lane % 16, swap = row / 2 % 4;
#pragma unroll
    for (int i = 0; i < 2; ++i)
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                   : "=r"(words[4 * i]), "=r"(words[4 * i + 1]), "=r"(words[4 * i + 2]), "=r"(words[4 * i + 3])
                   : "r"(weights + row * (GROUP / 2) + ((2 * i + lane / 16) ^ swap) * PIECE)
                   : "memory");
  }
  // Four times 32 inputs, as `Product::e4m3` takes them.
  __device__ __forceinline__ void decode(uint (&a)[4][4]) const {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      a[i / 4][i % 4] = flip_sign(words[i]);
      a[2 + i / 4][i % 4] = flip_sign(words[i] >> 4);
    }
  }
  static __device__ __forceinline__ uint flip_sign(uint nibbles) {  // of every second one; the others become zeros
    uint flipped;  // a & b ^ c
    asm("lop3.b32 %0, %1, %2, %3, 0x6a;" : "=r"(flipped) : "r"(nibbles), "r"(0x0f0f0f0f), "r"(0x08080808));
    return flipped;
  }
};

// part = one group of weights times activations, without waiting for it.
template <int N>
__device__ __forceinline__ void multiply_group(float (&part)[N / 2], const PackedRows& rows, uint values) {
  uint a[4][4];
  rows.decode(a);
  const unsigned long long b = describe_b(values);
  begin_products();
#pragma unroll
  for (int i = 0; i < 4; ++i) Product<N>::e4m3(part, a[i], b + 2 * i, i > 0);
  end_products();
}

// sum += scale * part; the rows g and g + 8 have one each.
template <int N>
__device__ __forceinline__ void add_group(float (&sum)[N / 2], const float (&part)[N / 2], float upper, float lower) {
#pragma unroll
  for (int i = 0; i < N / 2; ++i) sum[i] = fmaf(i % 4 < 2 ? upper : lower, part[i], sum[i]);
}

// Products on the tensor cores, summed in float32: acc += 16 rows times 8 columns, over 16 inputs.
//
// Lane 4 * g + t gives pairs of row g (a0, a2), of row g + 8 (a1, a3) and of column g (b0, b1), and gets rows g
// (acc[0..1]) and g + 8 (acc[2..3]) of columns 2 * t and 2 * t + 1, as PTX lays out m16n8k16. Which inputs the pairs
// are of is for the operands to agree on.

#pragma once

using uint = unsigned int;

__device__ __forceinline__ void multiply_fp16(
    float (&acc)[4], uint a0, uint a1, uint a2, uint a3, uint b0, uint b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void multiply_bf16(
    float (&acc)[4], uint a0, uint a1, uint a2, uint a3, uint b0, uint b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// Two products: four pairs of row g (`upper`), of row g + 8 (`lower`) and of column g.
__device__ __forceinline__ void multiply_fp16(
    float (&acc)[4], const uint (&upper)[4], const uint (&lower)[4], uint4 b) {
#pragma unroll
  for (int i = 0; i < 2; ++i)
    multiply_fp16(acc, upper[2 * i], lower[2 * i], upper[2 * i + 1], lower[2 * i + 1], i ? b.z : b.x, i ? b.w : b.y);
}

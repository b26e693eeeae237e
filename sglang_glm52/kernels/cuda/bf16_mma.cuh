// Products of bf16 numbers, 16 rows of weights times 8 tokens, whose operands lie in registers as they lie in memory.

#pragma once

using uint = unsigned int;

constexpr int ROWS = 16, COLUMNS = 8;  // outputs and tokens of one product
constexpr int CHUNK = 32;              // inputs of two

// acc += 16 outputs times 8 tokens: two pairs of row g (`upper_`), of row g + 8 (`lower_`) and of token g.
__device__ __forceinline__ void multiply(
    float (&acc)[4], uint upper_0, uint lower_0, uint upper_1, uint lower_1, uint x_0, uint x_1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3])
      : "r"(upper_0), "r"(lower_0), "r"(upper_1), "r"(lower_1), "r"(x_0), "r"(x_1));
}

// The same for 32 inputs, of which lane 4 * g + t has those from 8 * t on: which ones a product takes is for its operands
// to agree on. Lane 4 * g + t gets rows g (acc[0..1]) and g + 8 (acc[2..3]) of tokens 2 * t and 2 * t + 1.
__device__ __forceinline__ void multiply_chunk(float (&acc)[4], uint4 upper, uint4 lower, uint4 x) {
  multiply(acc, upper.x, lower.x, upper.y, lower.y, x.x, x.y);
  multiply(acc, upper.z, lower.z, upper.w, lower.w, x.z, x.w);
}

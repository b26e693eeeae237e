// Products of bf16 numbers, 16 rows of weights times 8 tokens, whose operands lie in registers as they lie in memory.

#pragma once

#include "mma.cuh"

constexpr int ROWS = 16, COLUMNS = 8;  // outputs and tokens of one product
constexpr int CHUNK = 32;              // inputs of two

// Lane 4 * g + t has the inputs from 8 * t on, of rows g and g + 8 of the weights and of token g.
__device__ __forceinline__ void multiply_chunk(float (&acc)[4], uint4 upper, uint4 lower, uint4 x) {
  multiply_bf16(acc, upper.x, lower.x, upper.y, lower.y, x.x, x.y);
  multiply_bf16(acc, upper.z, lower.z, upper.w, lower.w, x.z, x.w);
}

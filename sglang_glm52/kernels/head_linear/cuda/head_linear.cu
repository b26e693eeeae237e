// out = x @ weight^T for each head, for a few tokens. Macros: HEADS, OUTPUTS, INPUTS.
//
// A block is a warp, which takes 16 outputs of a head: their weights are on their way, into registers, before it waits
// for the kernel that writes x. Then it multiplies them by eight tokens at a time. In two products of 16 inputs lane
// 4 * g + t holds 8 inputs, as they lie in memory, of rows g and g + 8 of the weights and of token g: which inputs a
// product takes is for its operands to agree on.

#include <cuda_bf16.h>

#include "few_tokens.cuh"

constexpr int ROWS = 16, COLUMNS = 8;  // outputs and tokens of one product
constexpr int CHUNK = 32;              // inputs of two
constexpr int CHUNKS = INPUTS / CHUNK, TILES = OUTPUTS / ROWS;
static_assert(INPUTS % CHUNK == 0 && OUTPUTS % ROWS == 0);

// acc += 16 outputs times 8 tokens: two pairs of row g (`upper_`), of row g + 8 (`lower_`) and of token g.
__device__ __forceinline__ void multiply(
    float (&acc)[4], uint upper_0, uint lower_0, uint upper_1, uint lower_1, uint x_0, uint x_1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3])
      : "r"(upper_0), "r"(lower_0), "r"(upper_1), "r"(lower_1), "r"(x_0), "r"(x_1));
}

extern "C" __global__ void __launch_bounds__(32) head_linear(
    const __nv_bfloat16* x,  // [num_tokens, HEADS, INPUTS]
    const __nv_bfloat16* w,  // [HEADS, OUTPUTS, INPUTS]
    int num_tokens,          // 1 or more
    __nv_bfloat16* out) {    // out [num_tokens, HEADS, OUTPUTS]
  const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  const int head = blockIdx.x / TILES, row = blockIdx.x % TILES * ROWS;
  const uint4* from = reinterpret_cast<const uint4*>(w + (head * OUTPUTS + row + g) * INPUTS) + t;
  uint4 upper[CHUNKS], lower[CHUNKS];
#pragma unroll
  for (int i = 0; i < CHUNKS; ++i) {
    upper[i] = load_streamed(from + i * (CHUNK / 8));
    lower[i] = load_streamed(from + INPUTS + i * (CHUNK / 8));  // 8 rows further: INPUTS / 8 vectors each
  }
  take_turn();

#pragma unroll 1
  for (int first = 0; first < num_tokens; first += COLUMNS) {
    const int token = min(first + g, num_tokens - 1);  // columns beyond the last repeat it and are dropped
    const uint4* of_token = reinterpret_cast<const uint4*>(x + (token * HEADS + head) * INPUTS) + t;
    uint4 values[CHUNKS];
#pragma unroll
    for (int i = 0; i < CHUNKS; ++i) values[i] = __ldcg(of_token + i * (CHUNK / 8));
    float acc[4] = {};
#pragma unroll
    for (int i = 0; i < CHUNKS; ++i) {
      const uint4 v = values[i];
      multiply(acc, upper[i].x, lower[i].x, upper[i].y, lower[i].y, v.x, v.y);
      multiply(acc, upper[i].z, lower[i].z, upper[i].w, lower[i].w, v.z, v.w);
    }
    // Lane 4 * g + t has rows g (acc[0..1]) and g + 8 (acc[2..3]) of tokens 2 * t and 2 * t + 1.
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int column = first + 2 * t + i % 2;
      if (column < num_tokens)
        out[(column * HEADS + head) * OUTPUTS + row + g + i / 2 * 8] = __float2bfloat16_rn(acc[i]);
    }
  }
}

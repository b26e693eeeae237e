// out = x @ weight^T for each head, for a few tokens. Macros: HEADS, OUTPUTS, INPUTS.
//
// A block is a warp, which takes 16 outputs of a head: their weights are on their way, into registers, before it waits
// for the kernel that writes x. Then it multiplies them by eight tokens at a time.

#include <cuda_bf16.h>

#include "bf16_mma.cuh"
#include "few_tokens.cuh"

constexpr int CHUNKS = INPUTS / CHUNK, TILES = OUTPUTS / ROWS;
static_assert(INPUTS % CHUNK == 0 && OUTPUTS % ROWS == 0);

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
    for (int i = 0; i < CHUNKS; ++i) multiply_chunk(acc, upper[i], lower[i], values[i]);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int column = first + 2 * t + i % 2;
      if (column < num_tokens)
        out[(column * HEADS + head) * OUTPUTS + row + g + i / 2 * 8] = __float2bfloat16_rn(acc[i]);
    }
  }
}

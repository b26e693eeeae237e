// logits = x @ weight^T in float32, for a few tokens.
// Macros: HIDDEN, TOGETHER, THREADS, ROWS, MAX_TOKENS.
//
// A block takes ROWS experts and shares out their inputs: all their weights are on their way, into registers, before it
// waits for the kernel that writes x. Then it takes TOGETHER tokens at a time. Sums of a thread, of a warp and of the
// block have an order that depends on HIDDEN alone: equal arguments give equal bits, and a token's logits do not depend
// on the others.

#include "few_tokens.cuh"

constexpr int VECTORS = HIDDEN / 8;  // of 16 bytes
constexpr int EACH = (VECTORS + THREADS - 1) / THREADS, WARPS = THREADS / 32;
static_assert(HIDDEN % 8 == 0);

__device__ __forceinline__ float dot(float sum, uint a, uint b) {  // of two pairs of bf16
  sum = fmaf(__uint_as_float(a << 16), __uint_as_float(b << 16), sum);
  return fmaf(__uint_as_float(a & 0xffff0000u), __uint_as_float(b & 0xffff0000u), sum);
}

extern "C" __global__ void __launch_bounds__(THREADS) router_logits(
    const uint4* x,       // [num_tokens, HIDDEN] bf16
    const uint4* weight,  // [num_experts, HIDDEN] bf16
    int num_tokens,       // 1 .. MAX_TOKENS
    int num_experts,
    float* logits) {      // out [num_tokens, num_experts]
  __shared__ float partial[WARPS][MAX_TOKENS][ROWS];
  const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32, first = blockIdx.x * ROWS;
  uint4 w[ROWS][EACH];
#pragma unroll
  for (int row = 0; row < ROWS; ++row)
#pragma unroll
    for (int i = 0; i < EACH; ++i) {
      const int vector = i * THREADS + thread;
      w[row][i] = make_uint4(0, 0, 0, 0);
      if (vector < VECTORS) w[row][i] = load_streamed(weight + (first + row) * VECTORS + vector);
    }
  take_turn();

#pragma unroll 1
  for (int begin = 0; begin < num_tokens; begin += TOGETHER) {
    uint4 v[TOGETHER][EACH];
#pragma unroll
    for (int j = 0; j < TOGETHER; ++j)
#pragma unroll
      for (int i = 0; i < EACH; ++i) {
        const int vector = i * THREADS + thread;
        v[j][i] = make_uint4(0, 0, 0, 0);
        if (vector < VECTORS && begin + j < num_tokens) v[j][i] = __ldcg(x + (begin + j) * VECTORS + vector);
      }
#pragma unroll
    for (int j = 0; j < TOGETHER; ++j)
#pragma unroll
      for (int row = 0; row < ROWS; ++row) {
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < EACH; ++i) {
          sum = dot(sum, v[j][i].x, w[row][i].x);
          sum = dot(sum, v[j][i].y, w[row][i].y);
          sum = dot(sum, v[j][i].z, w[row][i].z);
          sum = dot(sum, v[j][i].w, w[row][i].w);
        }
        for (int step = 16; step; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
        if (lane == 0 && begin + j < num_tokens) partial[warp][begin + j][row] = sum;
      }
  }
  __syncthreads();
  for (int i = thread; i < num_tokens * ROWS; i += THREADS) {
    const int token = i / ROWS, row = i % ROWS;
    float total = 0.0f;
#pragma unroll
    for (int each = 0; each < WARPS; ++each) total += partial[each][token][row];
    logits[token * num_experts + first + row] = total;
  }
}

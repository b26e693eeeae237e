// logits = x @ weight^T in float32, for a few tokens. Macros: HIDDEN, TOKEN_TILES.
//
// A cluster of SPLITS blocks takes 16 experts, and its warps share out their inputs: all weights are on their way, into
// registers, before a block waits for the kernel that writes x. Each block adds up the warps' sums of the cluster for two
// of the experts. The order depends on HIDDEN alone: equal arguments give equal bits, and a token's logits do not depend
// on the others.

#include "bf16_mma.cuh"
#include "cluster.cuh"
#include "few_tokens.cuh"

constexpr int SPLITS = 8, WARPS = 8, THREADS = WARPS * 32, SUMS = SPLITS * WARPS;
constexpr int VECTORS = HIDDEN / 8;  // of 16 bytes, four a chunk
constexpr int EACH = (VECTORS + 4 * SUMS - 1) / (4 * SUMS);  // chunks of a warp
constexpr int TOKENS = COLUMNS * TOKEN_TILES, OWN = ROWS / SPLITS;
static_assert(HIDDEN % 8 == 0 && SPLITS == ROWS / 2);  // lane 4 * g + t sends rows g and g + 8 to block g

extern "C" __global__ void __cluster_dims__(SPLITS, 1, 1) __launch_bounds__(THREADS) router_logits(
    const uint4* x,       // [num_tokens, HIDDEN] bf16
    const uint4* weight,  // [num_experts, HIDDEN] bf16
    int num_tokens,       // 1 .. TOKENS
    int num_experts,
    float* logits) {      // out [num_tokens, num_experts]
  __shared__ float2 partial[SUMS][OWN][TOKENS / 2];  // of all warps of the cluster, for this block's experts
  __shared__ Barrier sums_are_here;
  const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32, g = lane / 4, t = lane % 4;
  const int rank = rank_in_cluster(), first = blockIdx.x / SPLITS * ROWS;
  const int vector = (rank * WARPS + warp) * EACH * 4 + t;
  const uint4 zeros = make_uint4(0, 0, 0, 0);

  const int last = num_experts - 1;  // which rows beyond it repeat, to be dropped
  const uint4* upper_row = weight + min(first + g, last) * VECTORS;
  const uint4* lower_row = weight + min(first + g + 8, last) * VECTORS;
  uint4 upper[EACH], lower[EACH];
#pragma unroll
  for (int i = 0; i < EACH; ++i) {
    const bool is_there = vector + i * 4 < VECTORS;
    upper[i] = is_there ? load_streamed(upper_row + vector + i * 4) : zeros;
    lower[i] = is_there ? load_streamed(lower_row + vector + i * 4) : zeros;
  }
  if (thread == 0) init_barrier(&sums_are_here), publish_barriers();
  __syncthreads();  // for racecheck, which takes the two for operations of different threads
  if (thread == 0) arrive_and_expect(&sums_are_here, sizeof(partial));
  arrive_at_cluster();
  take_turn();

  float sum[TOKEN_TILES][4] = {};
#pragma unroll
  for (int j = 0; j < TOKEN_TILES; ++j) {
    const uint4* of_token = x + min(j * COLUMNS + g, num_tokens - 1) * VECTORS + vector;
    uint4 values[EACH];
#pragma unroll
    for (int i = 0; i < EACH; ++i) values[i] = vector + i * 4 < VECTORS ? __ldcg(of_token + i * 4) : zeros;
#pragma unroll
    for (int i = 0; i < EACH; ++i) multiply_chunk(sum[j], upper[i], lower[i], values[i]);
  }
  wait_for_cluster();  // until its blocks run, and expect the sums
#pragma unroll
  for (int j = 0; j < TOKEN_TILES; ++j)
#pragma unroll
    for (int i = 0; i < OWN; ++i)
      store_remote(&partial[rank * WARPS + warp][i][j * COLUMNS / 2 + t], &sums_are_here, g,
                   make_float2(sum[j][2 * i], sum[j][2 * i + 1]));
  wait_for_senders(&sums_are_here);

  if (thread >= OWN * TOKENS) return;
  const int token = thread % TOKENS, expert = first + rank + thread / TOKENS * 8;
  if (token >= num_tokens || expert >= num_experts) return;
  const float* from = reinterpret_cast<const float*>(&partial[0][thread / TOKENS]) + token;
  float total[4] = {};
#pragma unroll
  for (int i = 0; i < SUMS; ++i) total[i % 4] += from[i * OWN * TOKENS];
  logits[token * num_experts + expert] = (total[0] + total[1]) + (total[2] + total[3]);
}

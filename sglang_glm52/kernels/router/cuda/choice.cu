// The TOPK experts of largest sigmoid(logit) + bias, weighed by the sigmoid. A warp takes a token.
// Macros: EXPERTS, TOPK, WARPS.

#include "few_tokens.cuh"

constexpr int EACH = (EXPERTS + 31) / 32;  // experts of a lane: lane, lane + 32, ...
static_assert(TOPK <= 32 && TOPK <= EXPERTS);

// Orders as the numbers do; 0, which no number but a NaN has, is that of an expert that is chosen or not there.
__device__ __forceinline__ uint order_of(float v) {
  const uint bits = __float_as_uint(v);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

extern "C" __global__ void __launch_bounds__(WARPS * 32) choose_experts(
    const float* logits,  // [num_tokens, EXPERTS]
    const float* bias,    // [EXPERTS]
    int num_tokens,
    int renormalize,      // divide a token's weights by their sum, or not (0)
    float* weights,       // out [num_tokens, TOPK]
    int* experts) {       // out [num_tokens, TOPK]: the best first, of equal ones the first
  const int lane = threadIdx.x % 32, token = blockIdx.x * WARPS + threadIdx.x / 32;
  float of_bias[EACH];
#pragma unroll
  for (int i = 0; i < EACH; ++i) of_bias[i] = i * 32 + lane < EXPERTS ? bias[i * 32 + lane] : 0.0f;
  take_turn();
  if (token >= num_tokens) return;

  float score[EACH];
  uint order[EACH];
#pragma unroll
  for (int i = 0; i < EACH; ++i) {
    const int expert = i * 32 + lane;
    score[i] = expert < EXPERTS ? 1.0f / (1.0f + expf(-__ldcg(logits + token * EXPERTS + expert))) : 0.0f;
    order[i] = expert < EXPERTS ? order_of(score[i] + of_bias[i]) : 0;
  }
  float weight = 0.0f, sum = 0.0f;
  int chosen = 0;
#pragma unroll 1
  for (int place = 0; place < TOPK; ++place) {
    uint best = 0;
#pragma unroll
    for (int i = 0; i < EACH; ++i) best = max(best, order[i]);
    best = __reduce_max_sync(~0u, best);
    uint expert = EXPERTS - 1;
#pragma unroll
    for (int i = EACH - 1; i >= 0; --i)
      if (order[i] == best && i * 32 + lane < EXPERTS) expert = i * 32 + lane;
    expert = __reduce_min_sync(~0u, expert);
    float of_expert = 0.0f;
#pragma unroll
    for (int i = 0; i < EACH; ++i)
      if (i * 32 + lane == static_cast<int>(expert)) of_expert = score[i], order[i] = 0;
    of_expert = __shfl_sync(~0u, of_expert, expert % 32);
    sum += of_expert;
    if (lane == place) weight = of_expert, chosen = expert;
  }
  if (lane >= TOPK) return;
  weights[token * TOPK + lane] = renormalize ? weight / sum : weight;
  experts[token * TOPK + lane] = chosen;
}

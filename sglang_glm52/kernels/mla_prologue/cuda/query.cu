// The rotary part of each head's query, and zeros for heads that are not there. A warp is a head of the output.
// Macros: HEADS, PADDED_HEADS, HEAD, ROPE, LATENT.

#include "rows.cuh"

constexpr int WARPS = 4;
constexpr int WIDTH = LATENT + ROPE;
static_assert(ROPE == 2 * LANES && HEAD % 2 == 0 && WIDTH % PER_LOAD == 0 && PADDED_HEADS % WARPS == 0);

extern "C" __global__ void __launch_bounds__(WARPS * LANES) mla_query(
    const __nv_bfloat16* q,    // [num_tokens, HEADS, HEAD], the last ROPE numbers of a head to be turned
    const int64* positions,    // [num_tokens]
    const float* cos_sin,      // [num_positions, ROPE], cosines first
    __nv_bfloat16* out) {      // out [num_tokens, PADDED_HEADS, LATENT + ROPE], but for the first LATENT of HEADS
  const int token = blockIdx.x, lane = threadIdx.x % LANES, head = blockIdx.y * WARPS + threadIdx.x / LANES;
  __nv_bfloat16* to = out + (static_cast<int64>(token) * PADDED_HEADS + head) * WIDTH;
  take_turn();
  if (head < HEADS) {
    const __nv_bfloat16* from = q + (static_cast<int64>(token) * HEADS + head) * HEAD + HEAD - ROPE;
    const uint pair = __ldcg(reinterpret_cast<const uint*>(from) + lane);
    const float* angles = cos_sin + __ldcg(positions + token) * ROPE;
    reinterpret_cast<uint*>(to + LATENT)[lane] = rotated(pair, __ldg(angles + lane), __ldg(angles + LANES + lane));
  } else {
#pragma unroll
    for (int i = lane; i < WIDTH / PER_LOAD; i += LANES) reinterpret_cast<uint4*>(to)[i] = make_uint4(0, 0, 0, 0);
  }
}

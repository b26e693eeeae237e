// Queries as sparse attention reads them: q_nope @ w_kc, the rotary part turned, and zeros for heads that are not there.
// Macros: HEADS, PADDED_HEADS, NOPE, ROPE, LATENT, TOKEN_TILES.
//
// A warp takes 16 latents of a head: their weights are on their way, into registers, before it waits for the kernel that
// writes q. Then it multiplies them by tiles of eight tokens. Further warps take the rest of a token's head each.

#include "bf16_mma.cuh"
#include "rows.cuh"

constexpr int WARPS = 2;
constexpr int CHUNKS = NOPE / CHUNK, TILES = LATENT / ROWS;
constexpr int HEAD = NOPE + ROPE, WIDTH = LATENT + ROPE;
static_assert(NOPE % CHUNK == 0 && TILES % WARPS == 0 && ROPE == 2 * LANES && PADDED_HEADS % WARPS == 0);

__device__ __forceinline__ void absorb(
    int part, const __nv_bfloat16* q, const __nv_bfloat16* w, int num_tokens, __nv_bfloat16* out, int lane) {
  const int head = part / TILES, row = part % TILES * ROWS, g = lane / 4, t = lane % 4;
  const uint4* from = reinterpret_cast<const uint4*>(w + static_cast<int64>(head * LATENT + row + g) * NOPE) + t;
  uint4 upper[CHUNKS], lower[CHUNKS];
#pragma unroll
  for (int i = 0; i < CHUNKS; ++i) {
    upper[i] = load_streamed(from + i * (CHUNK / PER_LOAD));
    lower[i] = load_streamed(from + NOPE + i * (CHUNK / PER_LOAD));  // 8 rows further: NOPE / 8 vectors each
  }
  take_turn();
  uint4 values[TOKEN_TILES][CHUNKS];
#pragma unroll
  for (int tile = 0; tile < TOKEN_TILES; ++tile) {
    const int token = min(tile * COLUMNS + g, num_tokens - 1);  // columns beyond the last repeat it and are dropped
    const __nv_bfloat16* of_token = q + (token * HEADS + head) * HEAD;
#pragma unroll
    for (int i = 0; i < CHUNKS; ++i)
      values[tile][i] = __ldcg(reinterpret_cast<const uint4*>(of_token + i * CHUNK) + t);
  }
#pragma unroll
  for (int tile = 0; tile < TOKEN_TILES; ++tile) {
    float acc[4] = {};
#pragma unroll
    for (int i = 0; i < CHUNKS; ++i) multiply_chunk(acc, upper[i], lower[i], values[tile][i]);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int token = tile * COLUMNS + 2 * t + i % 2;
      if (token < num_tokens)
        out[(token * PADDED_HEADS + head) * WIDTH + row + g + i / 2 * 8] = __float2bfloat16_rn(acc[i]);
    }
  }
}

__device__ __forceinline__ void fill(
    int token, int head, const __nv_bfloat16* q, const int64* positions, const float* cos_sin, __nv_bfloat16* out,
    int lane) {
  __nv_bfloat16* to = out + (token * PADDED_HEADS + head) * WIDTH;
  take_turn();
  if (head < HEADS) {
    const __nv_bfloat16* from = q + (token * HEADS + head) * HEAD + NOPE;
    const uint pair = __ldcg(reinterpret_cast<const uint*>(from) + lane);
    const float* angles = cos_sin + __ldcg(positions + token) * ROPE;
    reinterpret_cast<uint*>(to + LATENT)[lane] = rotated(pair, __ldg(angles + lane), __ldg(angles + LANES + lane));
  } else {
#pragma unroll
    for (int i = lane; i < WIDTH / PER_LOAD; i += LANES) reinterpret_cast<uint4*>(to)[i] = make_uint4(0, 0, 0, 0);
  }
}

extern "C" __global__ void __launch_bounds__(WARPS * LANES) absorbed_query(
    const __nv_bfloat16* q,    // [num_tokens, HEADS, NOPE + ROPE]
    const __nv_bfloat16* w,    // [HEADS, LATENT, NOPE]
    const int64* positions,    // [num_tokens]
    const float* cos_sin,      // [num_positions, ROPE], cosines first
    int num_tokens,            // 1 .. 8 * TOKEN_TILES
    __nv_bfloat16* out) {      // out [num_tokens, PADDED_HEADS, LATENT + ROPE]
  const int lane = threadIdx.x % LANES, warp = blockIdx.x * WARPS + threadIdx.x / LANES;
  const int rest = warp - HEADS * TILES;
  if (rest < 0)
    absorb(warp, q, w, num_tokens, out, lane);
  else
    fill(rest / PADDED_HEADS, rest % PADDED_HEADS, q, positions, cos_sin, out, lane);
}

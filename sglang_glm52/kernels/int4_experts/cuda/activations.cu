// Activations to FP8: the tokens before `gate_up`, and the slots' h between `gate_up` and `down`.
// Macros: HIDDEN, INNER, PREPARE_THREADS, ROUND_THREADS.

#include "fp8.cuh"
#include "int4_mma.cuh"

extern "C" __global__ void __launch_bounds__(PREPARE_THREADS) prepare(
    const bf16* x,          // [num_tokens, HIDDEN]
    const float* static_x,  // one scale for all tokens, or null
    int topk,
    __half* q,              // out [num_tokens, HIDDEN]: e4m3 values in the order of `position`
    float* scale_x,         // out [num_tokens]
    uint* absmax_h) {       // out [num_tokens * topk]: zeros
  constexpr int CHUNKS = HIDDEN / 8;
  constexpr int CHUNKS_EACH = (CHUNKS + PREPARE_THREADS - 1) / PREPARE_THREADS;
  __shared__ float warp_max[PREPARE_THREADS / 32];
  const int token = blockIdx.x, thread = threadIdx.x;
  wait_for_predecessor();
  let_successor_start();
#pragma unroll 1
  for (int i = thread; i < topk; i += PREPARE_THREADS) absmax_h[token * topk + i] = 0;

  uint4 values[CHUNKS_EACH];
  float absmax = 0.0f;
#pragma unroll
  for (int i = 0; i < CHUNKS_EACH; ++i) {
    const int chunk = i * PREPARE_THREADS + thread;
    values[i] = make_uint4(0, 0, 0, 0);
    if (chunk < CHUNKS) values[i] = reinterpret_cast<const uint4*>(x + static_cast<size_t>(token) * HIDDEN)[chunk];
    for (uint pair : {values[i].x, values[i].y, values[i].z, values[i].w})
      absmax = fmaxf(absmax, fmaxf(fabsf(low_of(pair)), fabsf(high_of(pair))));
  }
  float scale;
  if (static_x) {
    scale = *static_x;
  } else {
    for (int step = 16; step; step /= 2) absmax = fmaxf(absmax, __shfl_xor_sync(~0u, absmax, step));
    if (thread % 32 == 0) warp_max[thread / 32] = absmax;
    __syncthreads();
    absmax = warp_max[thread % (PREPARE_THREADS / 32)];
    for (int step = PREPARE_THREADS / 64; step; step /= 2) absmax = fmaxf(absmax, __shfl_xor_sync(~0u, absmax, step));
    scale = scale_of(absmax);
  }
  const Divisor by_scale(scale);
#pragma unroll
  for (int i = 0; i < CHUNKS_EACH; ++i) {
    const int chunk = i * PREPARE_THREADS + thread;
    if (chunk >= CHUNKS) break;
    const uint4 v = values[i];
    auto pair = [&](float low, float high) { return round_to_e4m3(by_scale.divide(low), by_scale.divide(high)); };
    const uint4 pairs = make_uint4(pair(low_of(v.x), low_of(v.z)), pair(high_of(v.x), high_of(v.z)),
                                   pair(low_of(v.y), low_of(v.w)), pair(high_of(v.y), high_of(v.w)));
    *reinterpret_cast<uint4*>(q + static_cast<size_t>(token) * HIDDEN + position(chunk * 8)) = pairs;
  }
  if (thread == 0) scale_x[token] = scale;
}

// h to FP8 in place: bf16 becomes e4m3 values as fp16. A warp takes a slot.
extern "C" __global__ void __launch_bounds__(ROUND_THREADS) round_all_h(
    uint4* h,               // [num_slots, INNER]
    const uint* absmax_h,   // [num_slots] float32 bits, from `gate_up`
    const float* static_h,  // one scale for all slots, or null
    int num_slots) {
  constexpr int SLOT_PIECES = INNER / 8;  // of 16 bytes
  const int slot = blockIdx.x * (ROUND_THREADS / 32) + threadIdx.x / 32;
  let_successor_start();  // before the wait: `down` has much to do before it reads h, and waits itself
  wait_for_predecessor();
  // Slots without an expert here have no h, and zeros are the same in both forms.
  if (slot >= num_slots || __ldcg(absmax_h + slot) == 0) return;
  const Divisor by_scale(scale_of_slot(absmax_h, static_h, slot));
  auto pair = [&](uint two) { return round_to_e4m3(by_scale.divide(low_of(two)), by_scale.divide(high_of(two))); };
#pragma unroll
  for (int i = threadIdx.x % 32; i < SLOT_PIECES; i += 32) {
    const uint4 v = __ldcg(h + slot * SLOT_PIECES + i);
    h[slot * SLOT_PIECES + i] = make_uint4(pair(v.x), pair(v.y), pair(v.z), pair(v.w));
  }
}

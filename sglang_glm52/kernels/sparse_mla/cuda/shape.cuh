// Numbers that follow from the model, the cache and the macros, and how shared memory is divided.
// Macros: HEADS, TOPK (of the call); WARPS, STAGES, SPLITS, RESIDENT (see tuning.py).

#pragma once

#include "device.cuh"

constexpr int LATENTS = 512, ROPE = 64, GROUP = 128, GROUPS = LATENTS / GROUP;
constexpr int SLOT_BYTES = 656, SCALES_AT = 512, ROPE_AT = 528;  // 512 e4m3, 4 float32, 64 bf16

constexpr int KEYS = 16;     // rows of one product of scores, products that one of values sums up
constexpr int COLUMNS = 8;   // heads in one product
constexpr int HEAD_TILES = (HEADS + COLUMNS - 1) / COLUMNS;
constexpr int PADDED_HEADS = HEAD_TILES * COLUMNS;

constexpr int THREADS = 32 * WARPS;
constexpr int PARTS = 2;      // warps that share a key's numbers out when they score it
constexpr int TILE = KEYS * WARPS / PARTS;    // keys that a block works on at once
constexpr int STEPS = TILE / KEYS;
constexpr int OWN_KEYS = TILE / WARPS;        // of a tile, that a warp fetches
constexpr int CHUNK = 64;                     // latents of a row that four lanes read at once, 16 bytes each
constexpr int CHUNKS = LATENTS / CHUNK / PARTS;
constexpr int PART_ROPE_BYTES = ROPE * 2 / PARTS;
constexpr int WARP_LATENTS = LATENTS / WARPS; // outputs of a head that a warp sums up, all of one group
constexpr int LANE_LATENTS = WARP_LATENTS / 8;
constexpr int SPLIT_TOPK = TOPK / SPLITS;     // of a token's selected slots, that a block attends to
constexpr int PITCH = TILE + 8;               // floats between a head's scores and the next one's: no bank conflicts
constexpr int SCORES = PARTS * PADDED_HEADS * PITCH;  // floats of a tile

constexpr int OWN_OUTPUTS = HEADS * LATENTS / SPLITS;  // of a token, that a block of a cluster writes
constexpr int OWN_HEADS = OWN_OUTPUTS > LATENTS ? OWN_OUTPUTS / LATENTS : 1;

static_assert(WARPS == 4 || WARPS == 8);
static_assert(SPLIT_TOPK * SPLITS == TOPK && SPLIT_TOPK % TILE == 0);
static_assert(STAGES < 8 && (STAGES > 1 || SPLIT_TOPK == TILE));  // a tile's place is filled again one tile later

// Offsets in bytes of dynamic shared memory; tuning.py adds them up too.
constexpr int SCRATCH_AT = 64;  // behind a barrier for each stage, and one for the sums of a cluster
constexpr int STAGES_AT = 128;  // behind two ints for each warp
constexpr int SCORES_AT = STAGES_AT + STAGES * TILE * SLOT_BYTES;
constexpr int LOG_SCALES_AT = SCORES_AT + 2 * SCORES * 4;
constexpr int SLOTS_AT = LOG_SCALES_AT + 2 * GROUPS * TILE * 4;
constexpr int SUMS_AT = SLOTS_AT + SPLIT_TOPK * 4;
constexpr int PARTIAL_AT = SUMS_AT + WARPS * PADDED_HEADS * 8;
constexpr int PARTIAL_SUMS_AT = PARTIAL_AT + (SPLITS > 1 ? HEADS * LATENTS * 4 : 0);

__device__ __forceinline__ float minus_infinity() { return __uint_as_float(0xff800000u); }

// Lane 4 * g + t of a warp.
struct Lane {
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
};

__device__ __forceinline__ uint round_to_fp16(float low, float high) {
  const __half2_raw pair = __floats2half2_rn(low, high);
  return pair.x | static_cast<uint>(pair.y) << 16;
}

// What lanes of head g hold, for the columns of a product: of heads 2 * t and 2 * t + 1.
__device__ __forceinline__ float of_column(float of_head, int t, int column) {
  return __shfl_sync(~0u, of_head, 8 * t + 4 * column);
}

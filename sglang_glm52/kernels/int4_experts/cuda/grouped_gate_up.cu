// h = silu(gate) * up, where (gate, up) = w13 @ x, for places in the order of the experts.
// Macros: HIDDEN, INNER, TOPK, BIAS, PLACES, STAGES.
//
// An item is a tile of places and 64 columns of h: 64 gate rows and the 64 up rows of the same columns. One warpgroup
// copies, a group of 128 inputs a stage; two compute 64 rows each, and while one adds up, the other multiplies.

#include "grouped_barriers.cuh"
#include "grouped_product.cuh"
#include "grouped_tiles.cuh"

using Stage = Ring<STAGES>;

constexpr int GROUPS = HIDDEN / GROUP;
constexpr int COLUMNS = ROWS / 2, BLOCKS = INNER / COLUMNS;
// The offset of all weights is a product too: scales times `bias`, bf16, 32 of them in a stage, two steps of 16.
constexpr int BIAS_INPUTS = 32, BIAS_STEPS = (2 * GROUPS + 15) / 16, BIAS_STAGES = (BIAS_STEPS + 1) / 2;
constexpr int STAGE_BYTES = VALUES_BYTES + WEIGHTS_BYTES, SCALES_BYTES = ROWS * 2;
static_assert(BIAS_INPUTS * SCALES_BYTES == WEIGHTS_BYTES && STAGE_BYTES % 1024 == 0);

struct Shared {
  uint stages;        // address of [STAGES][values, weights]
  uint scales;        // of [STAGES][gate scales, up scales] bf16
  uint token_scales;  // of [STAGES][PLACES] float, filled in an item's last stage
  Tiles tiles;

  __device__ int num_items() const { return tiles.total() * BLOCKS; }
  __device__ Tile tile(int item) const { return tiles.find(item / BLOCKS); }
  __device__ uint values(const Stage& stage) const { return stages + stage.index * STAGE_BYTES; }
  __device__ uint weights(const Stage& stage) const { return values(stage) + VALUES_BYTES; }
  __device__ uint token_scales_of(const Stage& stage) const { return token_scales + stage.index * PLACES * 4; }
  __device__ uint scales_of(const Stage& stage) const { return scales + stage.index * SCALES_BYTES; }
};

// The copying warpgroup, for one item.
struct Copier {
  const signed char* w13;
  const bf16* scale13;  // of the item's expert and columns, gate
  uint rows[PLACES / 16];  // of x, of this thread's places
  int count;
  unsigned long long policy;

  // `pieces` pieces of 16 bytes of each place's row, from `offset` bytes on.
  __device__ __forceinline__ void copy_values(uint to, const void* from, int row_bytes, int offset, int pieces) const {
    const int first = threadIdx.x / 8, piece = threadIdx.x % 8;
    if (piece >= pieces) return;
    const char* bytes = static_cast<const char*>(from) + offset + piece * PIECE;
    to += first * GROUP + (piece ^ first % 8) * PIECE;
#pragma unroll
    for (int i = 0; i < PLACES / 16; ++i)
      if (i * 16 + first < count) copy_row_async(to + i * 16 * GROUP, bytes, rows[i], row_bytes);
  }
  // The 64 gate scales, then the 64 up scales of a group; 16 threads call it.
  __device__ __forceinline__ void copy_scales(uint to, int group, int piece) const {
    copy_async(to + piece * PIECE, scale13 + group * 2 * INNER + piece / 8 * INNER + piece % 8 * 8);
  }
  // Of 16 rows 8 are gate rows and 8 the up rows of the same columns: they meet in a thread.
  __device__ __forceinline__ void copy_weights(uint to, int group) const {
    const int first = threadIdx.x / 4, piece = threadIdx.x % 4;
    const signed char* from = w13 + (first / 16 * 8 + first % 8 + first / 8 % 2 * INNER) * (HIDDEN / 2) +
                              group * (GROUP / 2) + piece * PIECE;
    to += first * (GROUP / 2) + (piece ^ first / 2 % 4) * PIECE;
#pragma unroll
    for (int i = 0; i < ROWS / 32; ++i)
      copy_once_async(to + i * 32 * (GROUP / 2), from + i * 16 * (HIDDEN / 2), policy);
  }
};

// The computing warpgroups, for one item.
struct Computer {
  const Shared& shared;
  bf16* h;
  Stage stage;
  Tile tile;
  int column;

  template <int N>
  __device__ __forceinline__ void compute() {
    const int warpgroup = threadIdx.x / 128 - 1, thread = threadIdx.x % 128, lane = thread % 32, g = lane / 4,
              t = lane % 4;
    const int first_row = warpgroup * 64 + thread / 32 * 16, my_column = first_row / 2 + g;  // of the item's columns
    float sum[N / 2], part[N / 2];
#pragma unroll
    for (int i = 0; i < N / 2; ++i) sum[i] = part[i] = 0.0f;
#pragma unroll 1
    for (int i = 0; i < BIAS_STAGES; ++i) {
      stage.wait_full();
      const int steps = min(2, BIAS_STEPS - 2 * i);
      uint a[2][4];
#pragma unroll
      for (int j = 0; j < 8; ++j) {  // inputs 2 t, 2 t + 1, and 8 more, of a gate row and an up row
        const uint from = shared.weights(stage) + (j / 4 * 16 + j / 2 % 2 * 8 + 2 * t) * SCALES_BYTES +
                          (j % 2 * COLUMNS + my_column) * 2;
        a[j / 4][j % 4] = load_shared_u16(from) | load_shared_u16(from + SCALES_BYTES) << 16;
      }
      const unsigned long long b = describe_b(shared.values(stage));
      begin_products();
      Product<N>::bf16(sum, a[0], b, i > 0);
      if (steps > 1) Product<N>::bf16(sum, a[1], b + 2, 1);
      end_products();
      wait_for_products(sum);
      stage.release();
      stage.next();
    }

    PackedRows rows;
    stage.wait_full();
    rows.load(shared.weights(stage), first_row);
#pragma unroll 1
    for (int group = 0; group < GROUPS; ++group) {
      multiply_group<N>(part, rows, shared.values(stage));
      const uint scales = shared.scales_of(stage) + my_column * 2;
      const float gate_scale = load_shared_bf16(scales), up_scale = load_shared_bf16(scales + COLUMNS * 2);
      const Stage done = stage;
      if (group + 1 < GROUPS) {
        stage.next();
        stage.wait_full();
        rows.load(shared.weights(stage), first_row);
      }
      wait_for_products(part);
      if (group + 1 < GROUPS) done.release();
      add_group<N>(sum, part, gate_scale, up_scale);
    }
    store<N>(sum, my_column, t);
    stage.release();
    stage.next();
  }

  template <int N>
  __device__ __forceinline__ void store(const float (&sum)[N / 2], int my_column, int t) const {
    bf16* to = h + static_cast<size_t>(tile.first) * INNER + column + my_column;
#pragma unroll
    for (int j = 0; j < N / 8; ++j)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int place = j * 8 + 2 * t + i;
        const float scale = load_shared_float(shared.token_scales_of(stage) + place * 4) * 512.0f;
        const float gate = sum[4 * j + i] * scale, up = sum[4 * j + 2 + i] * scale;
        const bf16 value = __float2bfloat16(__fdividef(gate, 1.0f + __expf(-gate)) * up);
        if (place < tile.count) to[place * INNER] = value;
      }
  }
};

// One block a multiprocessor; they take items in turns.
extern "C" __global__ void __launch_bounds__(COPYING + COMPUTING, 1) grouped_gate_up(
    const signed char* values,  // [num_tokens, HIDDEN] e4m3
    const float* token_scale,   // [num_tokens]
    const bf16* bias,           // [num_tokens, BIAS]
    const signed char* w13,     // [num_experts, 2 * INNER, HIDDEN / 2]
    const bf16* scale13,        // [num_experts, HIDDEN / 128, 2 * INNER]
    const int* slot_of_place,   // [num_slots]
    const int* starts,          // [num_experts + 1]
    int num_experts,
    bf16* h) {                  // out [num_slots, INNER]
  // Dynamic: stages, scales, token scales, barriers, tiles.
  extern __shared__ char dynamic_shared[];
  const uint begin = shared_address(dynamic_shared), stages = (begin + 1023) / 1024 * 1024;
  const uint scales = stages + STAGES * STAGE_BYTES, token_scales = scales + STAGES * SCALES_BYTES;
  const uint barriers = token_scales + STAGES * PLACES * 4;
  const Tiles tiles(dynamic_shared + (barriers - begin) + Stage::BARRIER_BYTES, num_experts);
  const Shared shared = {stages, scales, token_scales, tiles};
  Stage stage(barriers);
  if (threadIdx.x == 0) stage.init(COPYING, COMPUTING);
  wait_for_predecessor();
  let_successor_start();
  tiles.init<COPYING + COMPUTING>(starts);

  if (threadIdx.x < COPYING) {
    shrink_registers<COPYING_REGISTERS>();
    Copier copier;
    copier.policy = read_once_policy();
    for (int item = blockIdx.x; item < shared.num_items(); item += gridDim.x) {
      const Tile tile = shared.tile(item);
      if (tile.count <= 0) continue;
      const int column = item % BLOCKS * COLUMNS;
      copier.w13 = w13 + (static_cast<size_t>(tile.expert) * 2 * INNER + column) * (HIDDEN / 2);
      copier.scale13 = scale13 + static_cast<size_t>(tile.expert) * GROUPS * 2 * INNER + column;
      copier.count = tile.count;
#pragma unroll
      for (int i = 0; i < PLACES / 16; ++i) {
        const int row = i * 16 + threadIdx.x / 8;
        copier.rows[i] = row < tile.count ? slot_of_place[tile.first + row] / TOPK : 0;
      }
#pragma unroll 1
      for (int i = 0; i < BIAS_STAGES; ++i, stage.next()) {
        stage.wait_free();
        copier.copy_values(shared.values(stage), bias, BIAS * 2, i * BIAS_INPUTS * 2, 2 * min(2, BIAS_STEPS - 2 * i));
#pragma unroll
        for (int j = 0; j < BIAS_INPUTS / 8; ++j) {
          const int input = j * 8 + threadIdx.x / 16;
          copier.copy_scales(shared.weights(stage) + input * SCALES_BYTES, (i * BIAS_INPUTS + input) % GROUPS,
                             threadIdx.x % 16);
        }
        stage.hand_over();
      }
#pragma unroll 1
      for (int group = 0; group < GROUPS; ++group, stage.next()) {
        stage.wait_free();
        copier.copy_weights(shared.weights(stage), group);
        if (threadIdx.x < 16) copier.copy_scales(shared.scales_of(stage), group, threadIdx.x);
        copier.copy_values(shared.values(stage), values, HIDDEN, group * GROUP, GROUP / PIECE);
        if (group + 1 == GROUPS)
#pragma unroll 1
          for (int place = threadIdx.x; place < tile.count; place += COPYING)
            copy_word_async(shared.token_scales_of(stage) + place * 4,
                            token_scale + slot_of_place[tile.first + place] / TOPK);
        stage.hand_over();
      }
    }
  } else {
    grow_registers<COMPUTING_REGISTERS>();
    Computer computer = {shared, h, stage};
    for (int item = blockIdx.x; item < shared.num_items(); item += gridDim.x) {
      computer.tile = shared.tile(item);
      computer.column = item % BLOCKS * COLUMNS;
      if (computer.tile.count > 0) with_columns(computer.tile.columns(), computer);
    }
  }
}

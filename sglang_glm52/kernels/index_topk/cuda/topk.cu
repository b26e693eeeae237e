// The best scores of each row, exactly, in the order of the row.
// Macros: CLUSTER, THREADS, BLOCKS, LOADS, FIXED_BYTES, LIST_BYTES.

#include "histogram.cuh"
#include "part.cuh"

struct Counts {
  uint greater, equal;
};

// Dynamic shared memory; behind it marks, two words for each 32 scores of a slice, then `Lists` if slices may be long.
struct alignas(16) Shared {
  Histogram<12> upper;
  Histogram<10> middle, lower;
  Counts of_warp[WARPS], of_block[CLUSTER];
};

struct Lists {
  Histogram<12> upper;
  int positions[WARPS][CAPACITY];
};
static_assert(sizeof(Shared) == FIXED_BYTES && sizeof(Lists) == LIST_BYTES);

// What is returned of a position.
struct Encoding {
  const int* table;  // this row's, or null
  int offset;

  __device__ int operator()(int position) const { return table ? table[position] : position + offset; }
};

__device__ Counts sum_over_warp(Counts counts) {
  return {__reduce_add_sync(~0u, counts.greater), __reduce_add_sync(~0u, counts.equal)};
}

// `bytes` is a multiple of 16.
__device__ void set_zeros(void* from, int bytes) {
  for (int i = threadIdx.x; i < bytes / 16; i += THREADS) static_cast<uint4*>(from)[i] = make_uint4(0, 0, 0, 0);
}

// Counts the keys >> (shift + BITS) == prefix by the BITS below.
template <int BITS>
__device__ void count_digits(Histogram<BITS>& histogram, const Part& part, uint prefix, int shift) {
  part.for_each([&](uint key) {
    const uint digits = key >> shift;
    if (key && digits >> BITS == prefix) atomicAdd(&histogram.bins[digits % (1 << BITS)], 1u);
  });
}

// Writes the marked positions of this block's slice: all greater ones, and of the equal ones the row's first `wanted`.
__device__ void write(Shared& shared, const Marks& marks, int first, int size, uint wanted, int block, int blocks,
                      const Encoding& encode, int* out) {
  const int lane = lane_index(), warp = warp_index();
  const int words = (size + 31) / 32, each = (words + THREADS - 1) / THREADS;
  const int first_word = min(threadIdx.x * each, words), last_word = min(first_word + each, words);
  Counts own = {0, 0};
  for (int i = first_word; i < last_word; ++i) {
    own.greater += __popc(marks.greater[i]);
    own.equal += __popc(marks.equal[i]);
  }
  const Counts through = {running_sum(own.greater), running_sum(own.equal)};
  if (lane == 31) shared.of_warp[warp] = through;
  __syncthreads();
  const Counts warps = lane < WARPS ? shared.of_warp[lane] : Counts{0, 0};
  const Counts total = sum_over_warp(warps), earlier_warps = sum_over_warp(lane < warp ? warps : Counts{0, 0});
  Counts earlier_blocks = {0, 0};
  if (blocks > 1) {
    if (warp == 0 && lane < blocks) {
      store_remote(&shared.of_block[block].greater, lane, total.greater);
      store_remote(&shared.of_block[block].equal, lane, total.equal);
    }
    sync_cluster();  // behind the last access to another block's memory: a block may leave now, or reuse its own
    earlier_blocks = sum_over_warp(lane < block ? shared.of_block[lane] : Counts{0, 0});
  }
  const auto place_of = [&](uint greater, uint equal) { return greater + min(equal, wanted); };
  const uint base = place_of(earlier_blocks.greater, earlier_blocks.equal);
  const uint end = place_of(earlier_blocks.greater + total.greater, earlier_blocks.equal + total.equal);
  uint equal_before = earlier_blocks.equal + earlier_warps.equal + through.equal - own.equal;
  uint place = place_of(earlier_blocks.greater + earlier_warps.greater + through.greater - own.greater, equal_before);
  int* chosen = reinterpret_cast<int*>(&shared.upper);  // collected there, so that writing is parallel and in order
  for (int i = first_word; i < last_word; ++i) {
    const uint greater = marks.greater[i];
    for (uint left = greater | marks.equal[i]; left; left &= left - 1) {
      const int bit = __ffs(left) - 1;
      if (greater >> bit & 1 || equal_before++ < wanted) chosen[place++ - base] = first + i * 32 + bit;
    }
  }
  __syncthreads();
  for (int i = base + threadIdx.x; i < end; i += THREADS) out[i] = encode(chosen[i - base]);
}

// A cluster of blocks takes a row: as many of them as the row's length needs, a slice of it each.
//
// Keys of slices that fit into registers are counted there, some bits at a time, until the threshold is found. Of a
// longer slice a sample is counted, which gives a bound that the threshold cannot be below, and keys above that replace
// it: a few in a hundred of the slice.
extern "C" __global__ void __cluster_dims__(CLUSTER, 1, 1) __launch_bounds__(THREADS, BLOCKS) index_topk(
    const float* scores,    // [rows, columns], rows `stride` apart
    int columns,
    int stride,
    const int* lengths,     // [rows]
    const int* starts,      // [rows] or null
    const int* table,       // rows `table_stride` apart, or null
    int table_stride,
    const int* table_rows,  // [rows] or null
    const int* offsets,     // [rows] or null
    int topk,
    int words,              // in shared memory for marks of one kind
    int* out) {             // [rows, topk]
  extern __shared__ uint4 dynamic_shared[];
  Shared& shared = *reinterpret_cast<Shared*>(dynamic_shared);
  const Marks marks = {reinterpret_cast<uint*>(&shared + 1), reinterpret_cast<uint*>(&shared + 1) + words};
  Lists& lists = *reinterpret_cast<Lists*>(marks.equal + words);
  set_zeros(&shared, sizeof(Shared));
  wait_for_predecessor();
  let_successor_start();

  const int row = blockIdx.x / CLUSTER, block = blockIdx.x % CLUSTER;
  const int start = starts ? min(max(starts[row], 0), columns) : 0;
  const int length = min(lengths[row], columns - start);
  const size_t table_row = table_rows ? table_rows[row] : row;
  const Encoding encode = {table ? table + table_row * table_stride : nullptr, offsets ? offsets[row] : 0};
  out += static_cast<size_t>(row) * topk;
  if (length <= topk) {
    if (block == 0)
      for (int i = threadIdx.x; i < topk; i += THREADS) out[i] = i < length ? encode(i) : -1;
    return;
  }
  const int blocks = min(CLUSTER, (length + THREADS * LOADS - 1) / (THREADS * LOADS));
  if (block >= blocks) return;
  const int slice = ((length + blocks - 1) / blocks + 31) / 32 * 32;  // the last one may be shorter, or empty
  const int first = min(block * slice, length), size = min(slice, length - first);
  const int rounds = (slice + THREADS - 1) / THREADS;
  const float* own = scores + static_cast<size_t>(row) * stride + start + first;

  Part part(own, size, rounds, lists.positions[warp_index()]);
  __syncthreads();
  count_digits(shared.upper, part, 0, 20);
  if (!part.is_whole()) {
    set_zeros(marks.greater, 2 * words * sizeof(uint));
    set_zeros(&lists.upper, sizeof(lists.upper));
  }
  Bin bin = find(shared.upper, topk, blocks);
  if (!part.is_whole()) {
    part.collect(max(bin.index << 20, 1));
    count_digits(lists.upper, part, 0, 20);
    bin = find(lists.upper, topk, blocks);
  }
  uint threshold = bin.index << 20, wanted = topk - bin.above;
  if (bin.count > wanted) {
    count_digits(shared.middle, part, threshold >> 20, 10);
    bin = find(shared.middle, wanted, blocks);
    threshold |= bin.index << 10, wanted -= bin.above;
  }
  if (bin.count > wanted) {
    count_digits(shared.lower, part, threshold >> 10, 0);
    bin = find(shared.lower, wanted, blocks);
    threshold |= bin.index, wanted -= bin.above;
  }
  part.mark(marks, max(threshold, 1));  // nothing has key 0: it stands for no score
  __syncthreads();
  write(shared, marks, first, size, wanted, block, blocks, encode, out);
}

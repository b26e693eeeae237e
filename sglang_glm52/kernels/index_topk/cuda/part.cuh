// What a thread has of its block's slice of a row: every THREADS-th score, LOADS of them as keys in registers.
// Macros: THREADS, LOADS.

#pragma once

#include "device.cuh"

constexpr int CAPACITY = 32 * LOADS;  // keys in the registers of a warp

// Keys order as scores do, -0 is 0 and NaN comes last. No score has key 0.
__device__ __forceinline__ uint key_of(float score) {
  const int bits = __float_as_int(score + 0.0f);
  return score != score ? 1 : bits ^ (bits >> 31 | 0x80000000);
}

// A score of that key; NaN for keys below minus infinity's.
__device__ __forceinline__ float score_of(uint key) {
  return __uint_as_float(key & 0x80000000 ? key ^ 0x80000000 : ~key);
}

// Which scores of a slice are better than the threshold, and which equal it: a bit each.
struct Marks {
  uint *greater, *equal;  // in shared memory

  // All lanes of a warp, which have 32 neighbours.
  __device__ void set_word(int word, uint key, uint threshold) const {
    const uint is_greater = __ballot_sync(~0u, key > threshold), is_equal = __ballot_sync(~0u, key == threshold);
    if (lane_index() == 0) greater[word] = is_greater, equal[word] = is_equal;
  }

  __device__ void set_bit(int index, uint key, uint threshold) const {
    if (key >= threshold) atomicOr((key > threshold ? greater : equal) + index / 32, 1u << index % 32);
  }
};

class Part {
 public:
  // The whole part, where it has no more than LOADS rounds, or of as many rounds of it, far apart.
  __device__ Part(const float* slice, int size, int rounds, int* positions)
      : slice(slice), size(size), rounds(rounds), positions(positions), count(32 * min(rounds, LOADS)) {
    float score[LOADS];
#pragma unroll
    for (int i = 0; i < LOADS; ++i) score[i] = load(is_whole() ? i : i * rounds / LOADS);
#pragma unroll
    for (int i = 0; i < LOADS; ++i) {
      const int index = (is_whole() ? i : i * rounds / LOADS) * THREADS + threadIdx.x;
      key[i] = index < size ? key_of(score[i]) : 0;
    }
  }

  __device__ bool is_whole() const { return rounds <= LOADS; }

  // Takes the warp's keys of at least `bound` instead of the sample, and maybe NaN.
  __device__ void collect(uint bound) {
    const float least = score_of(bound);
    float next[LOADS];
    load_rounds(next, 0);
    uint found = 0;  // in lane l the scores of round l % 32 that the warp has
    count = 0;
#pragma unroll 1
    for (int round = 0; round < rounds; round += LOADS) {
      float score[LOADS];
#pragma unroll
      for (int i = 0; i < LOADS; ++i) score[i] = next[i];
      load_rounds(next, round + LOADS);
#pragma unroll
      for (int i = 0; i < LOADS; ++i) {
        const uint passing = __ballot_sync(~0u, !(score[i] < least));
        if (lane_index() == round % 32 + i) found = passing;
      }
      if ((round + LOADS) % 32 == 0 || round + LOADS >= rounds) {
        list(found, round / 32 * 32 + lane_index());
        found = 0;
      }
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < LOADS; ++i) {
      const int place = i * 32 + lane_index();
      key[i] = 0;
      if (count <= CAPACITY && place < count) key[i] = key_of(slice[positions[place]]);
    }
  }

  // use(key) for the keys that were taken, or for all of the part where those were too many for the registers.
  template <class Use>
  __device__ __forceinline__ void for_each(Use use) const {
    if (count > CAPACITY) return for_each_round([&](int, uint key) { use(key); });
#pragma unroll
    for (int i = 0; i < LOADS; ++i)
      if (i * 32 < count) use(key[i]);
  }

  // Marks that were not set before stay as they are where only some keys were taken.
  __device__ void mark(const Marks& marks, uint threshold) const {
    const auto set_word = [&](int round, uint key) { marks.set_word(round * WARPS + warp_index(), key, threshold); };
    if (count > CAPACITY) return for_each_round(set_word);
#pragma unroll
    for (int i = 0; i < LOADS; ++i) {
      if (i * 32 >= count) break;
      const int place = i * 32 + lane_index();
      if (is_whole())
        set_word(i, key[i]);
      else if (place < count)
        marks.set_bit(positions[place], key[i], threshold);
    }
  }

 private:
  __device__ float load(int round) const {
    const int index = round * THREADS + threadIdx.x;
    return index < size ? slice[index] : 0.0f;
  }

  __device__ __forceinline__ void load_rounds(float (&score)[LOADS], int first) const {
    const float* own = slice + first * THREADS + threadIdx.x;
    if ((first + LOADS) * THREADS <= size) {
#pragma unroll
      for (int i = 0; i < LOADS; ++i) score[i] = own[i * THREADS];
    } else {
#pragma unroll
      for (int i = 0; i < LOADS; ++i) score[i] = load(first + i);
    }
  }

  // Appends the positions of the bits in the lanes' words, of 32 scores in that round.
  __device__ void list(uint found, int round) {
    const int base = round * THREADS + warp_index() * 32, left = size - base;
    if (left < 32) found &= left > 0 ? (1u << left) - 1 : 0;
    const uint through = running_sum(__popc(found));
    int place = count + through - __popc(found);
    count += __shfl_sync(~0u, through, 31);
#pragma unroll 1
    for (; found && place < CAPACITY; found &= found - 1) positions[place++] = base + __ffs(found) - 1;
  }

  template <class Use>
  __device__ __forceinline__ void for_each_round(Use use) const {
    constexpr int STEP = 4;
#pragma unroll 1
    for (int round = 0; round < rounds; round += STEP) {
      float score[STEP];
#pragma unroll
      for (int i = 0; i < STEP; ++i) score[i] = load(round + i);
#pragma unroll
      for (int i = 0; i < STEP; ++i)
        if (round + i < rounds)
          use(round + i, (round + i) * THREADS + threadIdx.x < size ? key_of(score[i]) : 0);
    }
  }

  const float* slice;
  int size, rounds;  // rounds: of the largest slice of the row
  int* positions;    // [CAPACITY] in shared memory, of this warp
  int count;         // of the warp's keys
  uint key[LOADS];
};

// Whether racecheck follows buffers from one warp to another and back through mbarriers.
//
//     nvcc -arch=sm_90a -lineinfo -o handover handover.cu
//     compute-sanitizer --tool racecheck ./handover every   # no hazard
//     compute-sanitizer --tool racecheck ./handover one     # hazards, in the same hand-over
//
// Warp 0 copies 512 bytes at a time into two stages, warp 1 adds them up. Stages come back when every lane of warp 1
// has arrived at the stage's barrier, or when its first lane has, after __syncwarp.

#include <cstdint>
#include <cstdio>
#include <cstring>

constexpr int LANES = 32, STAGES = 2, ROUNDS = 16;

__device__ uint32_t shared(const void* pointer) { return static_cast<uint32_t>(__cvta_generic_to_shared(pointer)); }

__device__ void init(uint64_t* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared(barrier)), "r"(arrivals) : "memory");
}

__device__ void arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared(barrier)) : "memory");
}

__device__ void wait(uint64_t* barrier, int parity) {
  asm volatile(
      "{ .reg .pred done; again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1; @!done bra again; }" ::"r"(
          shared(barrier)),
      "r"(parity)
      : "memory");
}

__device__ void copy_and_arrive(int4* to, const int4* from, uint64_t* barrier) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared(to)), "l"(from) : "memory");
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(shared(barrier)) : "memory");
}

template <bool EVERY_LANE>
__global__ void add_up(const int4* in, int* out) {
  __shared__ alignas(16) int4 stage[STAGES][LANES];
  __shared__ alignas(8) uint64_t full[STAGES], free[STAGES];
  const int lane = threadIdx.x % LANES;
  if (threadIdx.x == 0) {
    for (int s = 0; s < STAGES; ++s) init(&full[s], LANES), init(&free[s], EVERY_LANE ? LANES : 1);
  }
  __syncthreads();
  int sum = 0;
  for (int i = 0; i < ROUNDS; ++i) {
    const int s = i % STAGES, turn = i / STAGES % 2;
    if (threadIdx.x < LANES) {
      if (i >= STAGES) wait(&free[s], turn ^ 1);
      copy_and_arrive(&stage[s][lane], &in[i * LANES + lane], &full[s]);
    } else {
      wait(&full[s], turn);
      sum += stage[s][(lane + 1) % LANES].x;
      __syncwarp();
      if (EVERY_LANE || lane == 0) arrive(&free[s]);
    }
  }
  if (threadIdx.x >= LANES) out[lane] = sum;
}

int main(int argc, char** argv) {
  if (argc != 2) return fprintf(stderr, "handover every|one\n"), 2;
  int4* in;
  int *out, first;
  cudaMalloc(&in, ROUNDS * LANES * sizeof(int4));
  cudaMemset(in, 1, ROUNDS * LANES * sizeof(int4));
  cudaMalloc(&out, LANES * sizeof(int));
  if (strcmp(argv[1], "every") == 0) add_up<true><<<1, 2 * LANES>>>(in, out);
  else add_up<false><<<1, 2 * LANES>>>(in, out);
  cudaMemcpy(&first, out, sizeof first, cudaMemcpyDeviceToHost);
  const bool is_right = cudaGetLastError() == cudaSuccess && first == ROUNDS * 0x01010101;
  return printf(is_right ? "right\n" : "wrong\n"), !is_right;
}

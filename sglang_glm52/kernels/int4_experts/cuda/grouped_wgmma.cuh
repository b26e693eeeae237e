// Hopper's products of a warpgroup: 64 rows of A from registers, N columns of B from shared memory.
//
// Of D (float32) thread 32 w + 4 g + t has rows 16 w + g and 16 w + g + 8 in columns 8 j + 2 t and the next:
// d[4 j], d[4 j + 1] and d[4 j + 2], d[4 j + 3]. Of A it has, of the same rows, bytes 4 t and the next three of the
// first 16 (a[0], a[1]) and of the last 16 (a[2], a[3]) of 32.

#pragma once

#include "device.cuh"

// B as rows of 128 bytes, a multiple of 8 of them, from a multiple of 1024 on; the 16-byte pieces of row r are swapped:
// piece p lies at p ^ r % 8. Adding 2 moves on by 32 bytes of every row.
__device__ __forceinline__ unsigned long long describe_b(uint address) {
  constexpr unsigned long long SWIZZLE_128_BYTES = 1ull << 62, EIGHT_ROWS = (1024ull >> 4) << 32, UNUSED = 1ull << 16;
  return SWIZZLE_128_BYTES | EIGHT_ROWS | UNUSED | (address & 0x3ffff) >> 4;
}

// Registers are in order, and shared memory is visible to the products, from here on.
__device__ __forceinline__ void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

__device__ __forceinline__ void end_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Until the warpgroup's products are in `d`, which must not be touched before.
template <int SIZE>
__device__ __forceinline__ void wait_for_products(float (&d)[SIZE]) {
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
#pragma unroll
  for (int i = 0; i < SIZE; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

// d = a * b or, with `add`, d += a * b: `e4m3` over 32 inputs, `bf16` over 16.
template <int N>
struct Product;

// `asm` wants each register by name.
#define D8(i)                                                                                         \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]),         \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define D16 D8(0), D8(8)
#define D32 D16, D8(16), D8(24)
#define D48 D32, D8(32), D8(40)
#define D64 D48, D8(48), D8(56)
#define NAMES8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define NAMES16 NAMES8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define NAMES24 NAMES16 ", %16, %17, %18, %19, %20, %21, %22, %23"
#define NAMES32 NAMES24 ", %24, %25, %26, %27, %28, %29, %30, %31"
#define NAMES40 NAMES32 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define NAMES48 NAMES40 ", %40, %41, %42, %43, %44, %45, %46, %47"
#define NAMES56 NAMES48 ", %48, %49, %50, %51, %52, %53, %54, %55"
#define NAMES64 NAMES56 ", %56, %57, %58, %59, %60, %61, %62, %63"
#define NAMES72 NAMES64 ", %64, %65, %66, %67, %68, %69, %70, %71"
#define NAMES80 NAMES72 ", %72, %73, %74, %75, %76, %77, %78, %79"

#define PRODUCT_OF(KIND, SHAPE, TYPES, TAIL, N, NAMES, A, B, ADD, ...)                                                \
  static __device__ __forceinline__ void KIND(float (&d)[N / 2], const uint (&a)[4], unsigned long long b, int add) { \
    asm volatile("{ .reg .pred add; setp.ne.b32 add, " ADD ", 0; wgmma.mma_async.sync.aligned.m64n" #N SHAPE TYPES    \
                 " {" NAMES "}, {" A "}, " B ", add, 1, 1" TAIL "; }"                                                 \
                 : __VA_ARGS__                                                                                        \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));                                     \
  }
#define PRODUCT(N, NAMES, A, B, ADD, ...)                                                         \
  template <>                                                                                     \
  struct Product<N> {                                                                             \
    PRODUCT_OF(e4m3, "k32", ".f32.e4m3.e4m3", "", N, NAMES, A, B, ADD, __VA_ARGS__)               \
    PRODUCT_OF(bf16, "k16", ".f32.bf16.bf16", ", 0", N, NAMES, A, B, ADD, __VA_ARGS__)            \
  };

PRODUCT(16, NAMES8, "%8, %9, %10, %11", "%12", "%13", D8(0))
PRODUCT(32, NAMES16, "%16, %17, %18, %19", "%20", "%21", D16)
PRODUCT(48, NAMES24, "%24, %25, %26, %27", "%28", "%29", D16, D8(16))
PRODUCT(64, NAMES32, "%32, %33, %34, %35", "%36", "%37", D32)
PRODUCT(80, NAMES40, "%40, %41, %42, %43", "%44", "%45", D32, D8(32))
PRODUCT(96, NAMES48, "%48, %49, %50, %51", "%52", "%53", D48)
PRODUCT(112, NAMES56, "%56, %57, %58, %59", "%60", "%61", D48, D8(48))
PRODUCT(128, NAMES64, "%64, %65, %66, %67", "%68", "%69", D64)
PRODUCT(144, NAMES72, "%72, %73, %74, %75", "%76", "%77", D64, D8(64))
PRODUCT(160, NAMES80, "%80, %81, %82, %83", "%84", "%85", D64, D8(64), D8(72))

// More of sm_90a, for kernels whose warpgroups keep 64 x 128 sums in registers: products with the
// left side in shared memory or in registers, boxes of matrices, and barriers to take turns at.
//
// Contract: as hopper.cuh. Tiles are rows of 128 bytes under the 128-byte swizzle and begin at
// multiples of 1024.
#pragma once

#include "engine/backend/cuda/kernels/hopper.cuh"

namespace latentd::cuda::hopper {

// One row of a tile.
inline constexpr int kRowBytes = 128;

// A box of a matrix whose first column and row are (x, y); its bytes count on `barrier`.
__device__ inline void copy_box(const void* shared, const CUtensorMap* map, std::uint32_t barrier,
                                int x, int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4}], [%2];" ::"r"(shared_address(shared)),
      "l"(map), "r"(barrier), "r"(x), "r"(y)
      : "memory");
}

// A tile as an operand; `next_columns` bytes behind it lie its next 64 columns, where the product
// sums over its rows.
__device__ inline std::uint64_t describe_tile(const void* shared, int next_columns = 16) {
  return descriptor(shared_address(shared), static_cast<std::uint32_t>(next_columns),
                    8 * kRowBytes);
}
// The same tile `bytes` further.
__device__ inline std::uint64_t advance_tile(std::uint64_t tile, int bytes) {
  return tile + static_cast<std::uint64_t>(bytes / 16);
}

// Keeps the compiler from moving accesses to sums over a product or a wait.
template <int kFragments>
__device__ inline void pin(float (&sums)[kFragments][4]) {
#pragma unroll
  for (int n = 0; n < kFragments; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) asm volatile("" : "+f"(sums[n][e])::"memory");
  }
}

#define LATENTD_SUMS(n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])
#define LATENTD_SUMS_OF_64x128                                                                  \
  LATENTD_SUMS(0), LATENTD_SUMS(1), LATENTD_SUMS(2), LATENTD_SUMS(3), LATENTD_SUMS(4),          \
      LATENTD_SUMS(5), LATENTD_SUMS(6), LATENTD_SUMS(7), LATENTD_SUMS(8), LATENTD_SUMS(9),      \
      LATENTD_SUMS(10), LATENTD_SUMS(11), LATENTD_SUMS(12), LATENTD_SUMS(13), LATENTD_SUMS(14), \
      LATENTD_SUMS(15)
#define LATENTD_NAMES_OF_64x128                                                                 \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, " \
  "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, "  \
  "%38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, "  \
  "%56, %57, %58, %59, %60, %61, %62, %63}"

// d [64, 128] (+)= a [64, 16] b [128, 16]^T, both in shared memory; not added when `add` is 0. The
// registers of a thread are those of m16n8k16: fragment n holds columns 8 n .. 8 n + 7.
__device__ inline void multiply_shared(float (&d)[16][4], std::uint64_t a, std::uint64_t b,
                                       int add) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " LATENTD_NAMES_OF_64x128
      ", %64, %65, p, 1, 1, 0, 0;\n}\n"
      : LATENTD_SUMS_OF_64x128
      : "l"(a), "l"(b), "r"(add));
}
// d [64, 128] += a [64, 16] b [16, 128], a in registers, b's rows in shared memory.
__device__ inline void multiply_add_registers(float (&d)[16][4], const std::uint32_t (&a)[4],
                                              std::uint64_t b) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " LATENTD_NAMES_OF_64x128
      ", {%64, %65, %66, %67}, %68, p, 1, 1, 1;\n}\n"
      : LATENTD_SUMS_OF_64x128
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

#undef LATENTD_SUMS
#undef LATENTD_SUMS_OF_64x128
#undef LATENTD_NAMES_OF_64x128

}  // namespace latentd::cuda::hopper

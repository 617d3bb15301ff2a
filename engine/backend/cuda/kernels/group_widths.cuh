// Products of one warp group of every width from 16 to 208 in steps of 16 (sm_90a).
//
// Layouts are those of tensor_core_group.cuh: an accumulator holds, with g = lane / 4 and
// t = lane % 4, value 4j + i of row 16 * warp + g + 8 * (i / 2), column 8j + 2t + i % 2.
//
// Contract: device code; all threads of the warp group call multiply_group.
#pragma once

#include <cstdint>

#include "engine/backend/cuda/kernels/tensor_core_group.cuh"

namespace latentd::cuda {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// clang-format off
#define LATENTD_EIGHT_SUMS(i)                                                        \
  "+f"(acc[i]), "+f"(acc[i + 1]), "+f"(acc[i + 2]), "+f"(acc[i + 3]), "+f"(acc[i + 4]), \
      "+f"(acc[i + 5]), "+f"(acc[i + 6]), "+f"(acc[i + 7])
#define LATENTD_SUMS_16 LATENTD_EIGHT_SUMS(0)
#define LATENTD_NAMES_16 "%0, %1, %2, %3, %4, %5, %6, %7"
#define LATENTD_SUMS_32 LATENTD_SUMS_16, LATENTD_EIGHT_SUMS(8)
#define LATENTD_NAMES_32 LATENTD_NAMES_16 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define LATENTD_SUMS_48 LATENTD_SUMS_32, LATENTD_EIGHT_SUMS(16)
#define LATENTD_NAMES_48 LATENTD_NAMES_32 ", %16, %17, %18, %19, %20, %21, %22, %23"
#define LATENTD_SUMS_64 LATENTD_SUMS_48, LATENTD_EIGHT_SUMS(24)
#define LATENTD_NAMES_64 LATENTD_NAMES_48 ", %24, %25, %26, %27, %28, %29, %30, %31"
#define LATENTD_SUMS_80 LATENTD_SUMS_64, LATENTD_EIGHT_SUMS(32)
#define LATENTD_NAMES_80 LATENTD_NAMES_64 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define LATENTD_SUMS_96 LATENTD_SUMS_80, LATENTD_EIGHT_SUMS(40)
#define LATENTD_NAMES_96 LATENTD_NAMES_80 ", %40, %41, %42, %43, %44, %45, %46, %47"
#define LATENTD_SUMS_112 LATENTD_SUMS_96, LATENTD_EIGHT_SUMS(48)
#define LATENTD_NAMES_112 LATENTD_NAMES_96 ", %48, %49, %50, %51, %52, %53, %54, %55"
#define LATENTD_SUMS_128 LATENTD_SUMS_112, LATENTD_EIGHT_SUMS(56)
#define LATENTD_NAMES_128 LATENTD_NAMES_112 ", %56, %57, %58, %59, %60, %61, %62, %63"
#define LATENTD_SUMS_144 LATENTD_SUMS_128, LATENTD_EIGHT_SUMS(64)
#define LATENTD_NAMES_144 LATENTD_NAMES_128 ", %64, %65, %66, %67, %68, %69, %70, %71"
#define LATENTD_SUMS_160 LATENTD_SUMS_144, LATENTD_EIGHT_SUMS(72)
#define LATENTD_NAMES_160 LATENTD_NAMES_144 ", %72, %73, %74, %75, %76, %77, %78, %79"
#define LATENTD_SUMS_176 LATENTD_SUMS_160, LATENTD_EIGHT_SUMS(80)
#define LATENTD_NAMES_176 LATENTD_NAMES_160 ", %80, %81, %82, %83, %84, %85, %86, %87"
#define LATENTD_SUMS_192 LATENTD_SUMS_176, LATENTD_EIGHT_SUMS(88)
#define LATENTD_NAMES_192 LATENTD_NAMES_176 ", %88, %89, %90, %91, %92, %93, %94, %95"
#define LATENTD_SUMS_208 LATENTD_SUMS_192, LATENTD_EIGHT_SUMS(96)
#define LATENTD_NAMES_208 LATENTD_NAMES_192 ", %96, %97, %98, %99, %100, %101, %102, %103"

// acc[64 x columns] += a[64 x 16] b[columns x 16]^T
#define LATENTD_MULTIPLY_GROUP(columns, left, right)                                              \
  __device__ inline void multiply_group(float (&acc)[columns / 2], std::uint64_t a, std::uint64_t b) { \
    asm volatile("wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32.bf16.bf16 {"               \
                 LATENTD_NAMES_##columns "}, %" #left ", %" #right ", 1, 1, 1, 0, 0;"             \
                 : LATENTD_SUMS_##columns                                                         \
                 : "l"(a), "l"(b));                                                               \
  }

LATENTD_MULTIPLY_GROUP(16, 8, 9)
LATENTD_MULTIPLY_GROUP(32, 16, 17)
LATENTD_MULTIPLY_GROUP(48, 24, 25)
LATENTD_MULTIPLY_GROUP(64, 32, 33)
LATENTD_MULTIPLY_GROUP(80, 40, 41)
LATENTD_MULTIPLY_GROUP(96, 48, 49)
LATENTD_MULTIPLY_GROUP(112, 56, 57)
LATENTD_MULTIPLY_GROUP(128, 64, 65)
LATENTD_MULTIPLY_GROUP(144, 72, 73)
LATENTD_MULTIPLY_GROUP(160, 80, 81)
LATENTD_MULTIPLY_GROUP(176, 88, 89)
LATENTD_MULTIPLY_GROUP(192, 96, 97)
LATENTD_MULTIPLY_GROUP(208, 104, 105)
// clang-format on

#undef LATENTD_MULTIPLY_GROUP
#undef LATENTD_EIGHT_SUMS
#undef LATENTD_SUMS_16
#undef LATENTD_NAMES_16
#undef LATENTD_SUMS_32
#undef LATENTD_NAMES_32
#undef LATENTD_SUMS_48
#undef LATENTD_NAMES_48
#undef LATENTD_SUMS_64
#undef LATENTD_NAMES_64
#undef LATENTD_SUMS_80
#undef LATENTD_NAMES_80
#undef LATENTD_SUMS_96
#undef LATENTD_NAMES_96
#undef LATENTD_SUMS_112
#undef LATENTD_NAMES_112
#undef LATENTD_SUMS_128
#undef LATENTD_NAMES_128
#undef LATENTD_SUMS_144
#undef LATENTD_NAMES_144
#undef LATENTD_SUMS_160
#undef LATENTD_NAMES_160
#undef LATENTD_SUMS_176
#undef LATENTD_NAMES_176
#undef LATENTD_SUMS_192
#undef LATENTD_NAMES_192
#undef LATENTD_SUMS_208
#undef LATENTD_NAMES_208

#endif

}  // namespace latentd::cuda

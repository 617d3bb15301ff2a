// Products of a warpgroup whose first operand lies in registers, and how matrices get there.
//
// Contract: device code for sm_90a. Registers of an operand must not change before the product is
// waited for; wgmma_fence comes between writing them and the product.
#pragma once

#include <cstdint>

namespace latentd::cuda::hopper {

// Descriptors (hopper.cuh) of an operand with k contiguous, whose groups of 8 rows are `kStride`
// bytes apart; each costs one addition, which matters where products are small.
template <std::uint32_t kStride>
struct OperandDescriptors {
  __device__ explicit OperandDescriptors(std::uint32_t address) : low((address >> 4) | 0x10000U) {}
  __device__ std::uint64_t at(std::uint32_t bytes) const {
    constexpr std::uint32_t kHigh = 0x40000000U | (kStride >> 4);
    std::uint64_t descriptor;
    asm("mov.b64 %0, {%1, %2};" : "=l"(descriptor) : "r"(low + (bytes >> 4)), "r"(kHigh));
    return descriptor;
  }
  // Keeps the compiler from computing descriptors once and holding all of them.
  __device__ void forget() { asm volatile("" : "+r"(low)); }
  std::uint32_t low;
};

// Four 8 x 8 matrices of 16-bit elements, whose rows of 16 bytes lie where lanes 8 m .. 8 m + 7
// say: lane l gets elements 2 (l % 4), 2 (l % 4) + 1 of row l / 4 of each.
__device__ inline void load_matrices(std::uint32_t (&m)[4], std::uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(row)
               : "memory");
}

// The same of their transposes: element l / 4 of rows 2 (l % 4), 2 (l % 4) + 1.
__device__ inline void load_transposed(std::uint32_t (&m)[4], std::uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(row)
               : "memory");
}

// The inverse of load_transposed.
__device__ inline void store_transposed(std::uint32_t row, const std::uint32_t (&m)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row),
               "r"(m[0]), "r"(m[1]), "r"(m[2]), "r"(m[3])
               : "memory");
}

// d (+)= a b over k = 16: a [64, 16] in registers, b [n, 16] in shared memory with k contiguous
// (hopper.cuh: descriptor). Lane l of warp w holds a of rows 16 w + l / 4 (a0, a2) and + 8 (a1,
// a3), k = 2 (l % 4), + 1 (a0, a1) and + 8, + 9 (a2, a3), and d as wgmma_n64 leaves it, n / 2
// values. multiply_f16 and multiply_bf16, for n = 16, 32 and 64.
#define LATENTD_REGISTER_PRODUCTS(name, type)                                                     \
  __device__ inline void name(float(&d)[8], const std::uint32_t* a, std::uint64_t b,              \
                              bool accumulate) {                                                  \
    asm volatile(                                                                                 \
        "{\n.reg .pred p;\nsetp.ne.b32 p, %13, 0;\n"                                              \
        "wgmma.mma_async.sync.aligned.m64n16k16.f32." type "." type                               \
        " {%0, %1, %2, %3, %4, %5, %6, %7}, {%8, %9, %10, %11}, %12, p, 1, 1, 0;\n}\n"            \
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),     \
          "+f"(d[7])                                                                              \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(accumulate))); \
  }                                                                                               \
  __device__ inline void name(float(&d)[16], const std::uint32_t* a, std::uint64_t b,             \
                              bool accumulate) {                                                  \
    asm volatile(                                                                                 \
        "{\n.reg .pred p;\nsetp.ne.b32 p, %21, 0;\n"                                              \
        "wgmma.mma_async.sync.aligned.m64n32k16.f32." type "." type                               \
        " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}, "               \
        "{%16, %17, %18, %19}, %20, p, 1, 1, 0;\n}\n"                                             \
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),     \
          "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), \
          "+f"(d[14]), "+f"(d[15])                                                                \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(accumulate))); \
  }                                                                                               \
  __device__ inline void name(float(&d)[32], const std::uint32_t* a, std::uint64_t b,             \
                              bool accumulate) {                                                  \
    asm volatile(                                                                                 \
        "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"                                              \
        "wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type                               \
        " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                \
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "       \
        "{%32, %33, %34, %35}, %36, p, 1, 1, 0;\n}\n"                                             \
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),     \
          "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), \
          "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]),           \
          "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]),           \
          "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])            \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(accumulate))); \
  }
LATENTD_REGISTER_PRODUCTS(multiply_f16, "f16")
LATENTD_REGISTER_PRODUCTS(multiply_bf16, "bf16")
#undef LATENTD_REGISTER_PRODUCTS

}  // namespace latentd::cuda::hopper

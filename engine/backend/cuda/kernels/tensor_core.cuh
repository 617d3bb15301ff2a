// Asynchronous copies, fragment loads and bf16 products of one warp (sm_80 and later).
//
// Fragment layouts are those of the PTX manual, section "Matrix fragments for mma.m16n8k16". With
// g = lane / 4 and t = lane % 4, an accumulator holds rows g (values 0, 1) and g + 8 (2, 3),
// columns 2t and 2t + 1.
//
// Contract: device code; every lane of the warp calls.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

namespace latentd::cuda {

constexpr int kPieceBytes = 16;  // of one asynchronous copy

__device__ inline std::uint32_t shared_address(const void* data) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(data));
}

// Copies 16 bytes from global to shared memory, past L1; zeros when not `inside`. Both aligned to
// 16 bytes.
__device__ inline void copy_piece(std::uint32_t to, const void* from, bool inside) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
               "r"(inside ? 16 : 0)
               : "memory");
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until at most `kPending` of the thread's newest groups are unfinished.
template <int kPending>
__device__ inline void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Four 8 x 8 matrices of 16-bit values; lane 8i + j gives the address of row j of matrix i.
__device__ inline void load_matrices(std::uint32_t (&to)[4], std::uint32_t from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(from)
               : "memory");
}

// acc[16 x 8] += a[16 x 16] b[16 x 8]
__device__ inline void multiply_add(float (&acc)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                    std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace latentd::cuda

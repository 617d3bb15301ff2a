// The instructions of sm_90a that the kernels use: mbarriers, bulk tensor copies, wgmma.
//
// Contract: device code for sm_90a (PTX ISA 8.0); shared addresses are 32-bit. What a tile's layout
// must be stands at each descriptor.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace latentd::cuda::hopper {

__device__ inline std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

__device__ inline void barrier_init(std::uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}

// Makes initialised barriers known to the copy engine.
__device__ inline void fence_barrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ inline void barrier_arrive(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// Lanes that arrive when a warp hands something over, or wait when it is handed something: the
// first for all, before or after the warp is together. racecheck follows what the arriving and the
// waiting threads themselves do and nobody else, so in builds for it all do.
#ifdef LATENTD_RACECHECK
inline constexpr int kWarpArrivals = 32;
#else
inline constexpr int kWarpArrivals = 1;
#endif
__device__ inline void barrier_arrive_warp(std::uint32_t barrier, int lane) {
  if (lane < kWarpArrivals) barrier_arrive(barrier);
}

__device__ inline void barrier_arrive_expecting(std::uint32_t barrier, std::uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}

// Waits for the end of the phase with this parity.
__device__ inline void barrier_wait(std::uint32_t barrier, std::uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "WAIT:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra WAIT;\n"
      "}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

// The same, but for about `clocks` clocks at most.
__device__ inline void barrier_wait_a_while(std::uint32_t barrier, std::uint32_t parity,
                                            unsigned clocks) {
  const unsigned begin = static_cast<unsigned>(clock());
  int done = 0;
  while (done == 0 && static_cast<unsigned>(clock()) - begin < clocks) {
    asm volatile(
        "{\n"
        ".reg .pred p;\n"
        "mbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.s32 %0, 1, 0, p;\n"
        "}\n"
        : "=r"(done)
        : "r"(barrier), "r"(parity)
        : "memory");
  }
}

// As barrier_wait. Returns 0, which is known only then: the compiler begins nothing that needs it
// before.
__device__ inline float barrier_wait_for_zero(std::uint32_t barrier, std::uint32_t parity) {
  float zero;
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "WAIT:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%1], %2;\n"
      "selp.f32 %0, 0f00000000, 0f7fc00000, done;\n"
      "@!done bra WAIT;\n"
      "}\n"
      : "=f"(zero)
      : "r"(barrier), "r"(parity)
      : "memory");
  return zero;
}

// Ordinary writes to shared memory before it are seen by wgmma and the copy engine after it.
__device__ inline void fence_async_shared() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Barrier `id` (1 .. 15) over `threads` threads of the block.
__device__ inline void named_barrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Counts as `named_barrier` but does not wait.
__device__ inline void named_barrier_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

__device__ inline void prefetch_tensor_map(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// An arrival at the barrier at the same place in CTA `cta` of the cluster.
__device__ inline void barrier_arrive_at(std::uint32_t barrier, int cta) {
  asm volatile(
      "{\n"
      ".reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [remote];\n"
      "}\n" ::"r"(barrier),
      "r"(cta)
      : "memory");
}

// All threads of the cluster.
__device__ inline void cluster_barrier() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// `bytes` that lie behind one another, a multiple of 16.
__device__ inline void copy_bytes(std::uint32_t to, const void* from, std::uint32_t barrier,
                                  int bytes) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(to),
      "l"(from), "r"(bytes), "r"(barrier)
      : "memory");
}

__device__ inline void copy_tensor_3d(std::uint32_t to, const CUtensorMap* map,
                                      std::uint32_t barrier, int c0, int c1, int c2) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5}], [%2];" ::"r"(to),
      "l"(map), "r"(barrier), "r"(c0), "r"(c1), "r"(c2)
      : "memory");
}

__device__ inline void copy_tensor_4d(std::uint32_t to, const CUtensorMap* map,
                                      std::uint32_t barrier, int c0, int c1, int c2, int c3) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(to),
      "l"(map), "r"(barrier), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
}

// To the same place in the CTAs of `mask`, whose barriers at the same place count the bytes.
__device__ inline void multicast_tensor_4d(std::uint32_t to, const CUtensorMap* map,
                                           std::uint32_t barrier, std::uint16_t mask, int c0,
                                           int c1, int c2, int c3) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%4, %5, %6, %7}], [%2], %3;" ::"r"(to),
      "l"(map), "r"(barrier), "h"(mask), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
}

__device__ inline void multicast_tensor_3d(std::uint32_t to, const CUtensorMap* map,
                                           std::uint32_t barrier, std::uint16_t mask, int c0,
                                           int c1, int c2) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%4, %5, %6}], [%2], %3;" ::"r"(to),
      "l"(map), "r"(barrier), "h"(mask), "r"(c0), "r"(c1), "r"(c2)
      : "memory");
}
__device__ inline void multicast_bytes(std::uint32_t to, const void* from, std::uint32_t barrier,
                                       std::uint16_t mask, int bytes) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1], %2, [%3], %4;" ::"r"(to),
      "l"(from), "r"(bytes), "r"(barrier), "h"(mask)
      : "memory");
}

__device__ inline void load_shared(uint4& to, std::uint32_t from) {
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(to.x), "=r"(to.y), "=r"(to.z), "=r"(to.w)
               : "r"(from)
               : "memory");
}
__device__ inline void load_shared(float& to, std::uint32_t from) {
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(to) : "r"(from) : "memory");
}
__device__ inline void store_shared(std::uint32_t to, float from) {
  asm volatile("st.shared.f32 [%0], %1;" ::"r"(to), "f"(from) : "memory");
}
__device__ inline void store_shared(std::uint32_t to, const uint4& from) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(from.x), "r"(from.y),
               "r"(from.z), "r"(from.w)
               : "memory");
}

// A wgmma operand in shared memory under the 128-byte swizzle: atoms of 8 rows of 128 bytes, each
// 1024 bytes and aligned to them. Rows are of the operand's M or N when K is contiguous (`stride`
// bytes from atom to atom along M or N; `lead` unused), of K when M or N is contiguous (`stride`
// bytes from atom to atom along K, `lead` along M or N).
__device__ inline std::uint64_t descriptor(std::uint32_t address, std::uint32_t lead,
                                           std::uint32_t stride) {
  constexpr std::uint64_t kSwizzle128 = std::uint64_t{1} << 62;
  return kSwizzle128 | static_cast<std::uint64_t>((address & 0x3ffffU) >> 4) |
         (static_cast<std::uint64_t>(lead >> 4) << 16) |
         (static_cast<std::uint64_t>(stride >> 4) << 32);
}

// Halves of a descriptor: products of one operand differ in the lower one, where an address 16
// bytes further is 1 more. Computing descriptors anew takes longer than a small product.
__device__ inline std::uint32_t descriptor_low(std::uint32_t address, std::uint32_t lead) {
  return (address & 0x3ffffU) >> 4 | lead >> 4 << 16;
}
__device__ constexpr std::uint64_t descriptor_high(std::uint32_t stride) {
  return std::uint64_t{1} << 62 | static_cast<std::uint64_t>(stride >> 4) << 32;
}

__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kPending>
__device__ inline void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// Programmatic dependent launch: lets the next launch begin its prologue, and waits until the
// launch before is complete and its writes are visible. Without the launch attribute both do
// nothing.
__device__ inline void let_next_launch_begin() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}
__device__ inline void wait_for_last_launch() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

// All warps of a warpgroup call; a kernel's warpgroups together keep what it was launched with.
template <int kCount>
__device__ inline void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
__device__ inline void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}

// Four matrices of [8, 8] 16-bit elements: lanes 8 i .. 8 i + 7 say where the rows of matrix i go,
// 16 bytes each; lane l holds of each matrix elements 2 (l % 4) and the next of row l / 4.
__device__ inline void store_matrices(std::uint32_t row, std::uint32_t a, std::uint32_t b,
                                      std::uint32_t c, std::uint32_t d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row),
               "r"(a), "r"(b), "r"(c), "r"(d)
               : "memory");
}

// The same, each matrix transposed: lane l holds elements of column l / 4.
__device__ inline void store_transposed(std::uint32_t row, std::uint32_t a, std::uint32_t b,
                                        std::uint32_t c, std::uint32_t d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row),
               "r"(a), "r"(b), "r"(c), "r"(d)
               : "memory");
}

// Keeps reads of `d` behind what came before: products write registers after their instruction.
template <int kCount>
__device__ inline void wgmma_results(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

// d (+)= a b over k = 16: a [64, 16] and b [64, 16], k contiguous in both. Thread t of the
// warpgroup holds rows 16 (t / 32) + t % 32 / 4 (+ 8) and columns 8 j + 2 (t % 4) (+ 1):
// d[4 j], d[4 j + 1] of the first row, d[4 j + 2], d[4 j + 3] of the second; from column 32 on in e
// instead of d.
__device__ inline void wgmma_n64(float (&d)[16], float (&e)[16], std::uint64_t a, std::uint64_t b,
                                 bool accumulate) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.b32 p, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
      "%32, %33, p, 1, 1, 0, 0;\n"
      "}\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),
        "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]),
        "+f"(d[14]), "+f"(d[15]), "+f"(e[0]), "+f"(e[1]), "+f"(e[2]), "+f"(e[3]), "+f"(e[4]),
        "+f"(e[5]), "+f"(e[6]), "+f"(e[7]), "+f"(e[8]), "+f"(e[9]), "+f"(e[10]), "+f"(e[11]),
        "+f"(e[12]), "+f"(e[13]), "+f"(e[14]), "+f"(e[15])
      : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));
}

// d (+)= a b over k = 16: a [64, 16] with k contiguous, b [16, 128] with n contiguous. Registers as
// above.
__device__ inline void wgmma_n128(float (&d)[64], std::uint64_t a, std::uint64_t b,
                                  bool accumulate) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.b32 p, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
      "%64, %65, p, 1, 1, 0, 1;\n"
      "}\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),
        "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]),
        "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]),
        "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]),
        "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]),
        "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]),
        "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]),
        "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]),
        "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]),
        "+f"(d[63])
      : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));
}

}  // namespace latentd::cuda::hopper

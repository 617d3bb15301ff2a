// The 512 + 64 attention over an fp8 cache: a worker's sums of values.
#pragma once

#include <cstdint>

#include "engine/backend/cuda/kernels/mla_fp8_scores.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_tile.cuh"
#include "engine/backend/cuda/kernels/register_products.cuh"

namespace latentd::cuda {

// A worker's sums^T [8][64 latents, queries]. A thread holds latents 2 (lane / 4), + 1 of the 16 of
// its warp in a block, queries as in a tile of scores.
template <int kQueries>
struct MlaFp8Sums {
  static constexpr int kBlocks = kMlaLatent / 64;
  float block[kBlocks][kQueries / 2];

  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < kBlocks * kQueries / 2; ++i) {
      block[i / (kQueries / 2)][i % (kQueries / 2)] = 0.0F;
    }
  }
  __device__ void shrink(const float (&keep)[kQueries / 4]) {
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
      for (int i = 0; i < kQueries / 2; ++i) block[b][i] *= keep[i / 4 * 2 + i % 2];
    }
  }
  // Keeps reads behind what was waited for.
  __device__ void settle() {
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) hopper::wgmma_results(block[b]);
  }
};

// Where a thread finds its part of a stage's latents as the first operand of P V: a key's, in even
// and odd blocks of 64.
template <int kCopiedKeys>
struct MlaFp8LatentRows {
  __device__ explicit MlaFp8LatentRows(const MlaFp8Thread& self) {
    const auto key = static_cast<std::uint32_t>(MlaFp8Tile::code_offset<kCopiedKeys>(self.lane, 0));
    const int chunk = self.warp ^ (self.lane % 8);
    even = key + static_cast<std::uint32_t>(chunk * 16);
    odd = key + static_cast<std::uint32_t>((chunk ^ 4) * 16);
  }
  std::uint32_t even;
  std::uint32_t odd;
};

// 16 latents of a stage's keys, as transposed loads leave them, as the first operand of two
// products.
__device__ inline void mla_fp8_widen(const std::uint32_t (&raw)[4], std::uint32_t* to) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    // Codes of two keys and two latents: from key by key to latent by latent.
    const std::uint32_t pairs = __byte_perm(raw[i], 0, 0x3120);
    to[i * 2] = widen_low(pairs);
    to[i * 2 + 1] = widen_high(pairs);
  }
}

// Adds the weighted values of a key tile, a few blocks of 64 latents at a time: the first may be
// widened before their weights are there.
template <int kCopiedKeys, int kQueries>
class MlaFp8Values {
 public:
  static constexpr int kBlocks = kQueries == 16 ? 2 : 1;  // at a time
  static constexpr int kSteps = MlaFp8Sums<kQueries>::kBlocks / kBlocks;

  // stages: addresses of their codes.
  __device__ MlaFp8Values(const MlaFp8LatentRows<kCopiedKeys>& rows, std::uint32_t first,
                          std::uint32_t second)
      : stages_{first + rows.even, second + rows.even}, odd_(rows.odd - rows.even) {}

  // Codes of a step into registers, and from there into an operand.
  __device__ void load(int step) {
#pragma unroll
    for (int i = 0; i < 2 * kBlocks; ++i) {
      const int block = step * kBlocks + i / 2;
      hopper::load_transposed(raw_[i], stages_[i % 2] + (block % 2 == 0 ? 0U : odd_) +
                                           static_cast<std::uint32_t>(
                                               MlaFp8Tile::code_offset<kCopiedKeys>(0, block / 2)));
    }
  }
  __device__ void widen(int step) {
#pragma unroll
    for (int i = 0; i < 2 * kBlocks; ++i) mla_fp8_widen(raw_[i], a_[step % 2] + i * 8);
  }
  // What step 0 needs is widened. `release`: the keys are needed no more.
  template <typename Release>
  __device__ void add(const hopper::OperandDescriptors<MlaFp8Tile::kAtomBytes>& weights,
                      MlaFp8Sums<kQueries>& sums, const Release& release) {
    using namespace hopper;
    sums.settle();
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      if (step + 1 < kSteps) load(step + 1);
      wgmma_fence();
#pragma unroll
      for (int i = 0; i < 4 * kBlocks; ++i) {
        const int block = step * kBlocks + i % kBlocks;
        const int k = i / kBlocks;
        multiply_f16(sums.block[block], a_[step % 2] + i % kBlocks * 16 + k * 4,
                     weights.at(static_cast<std::uint32_t>(block / 2 * kQueries * 128 + k * 32)),
                     true);
      }
      wgmma_commit();
      if (step + 1 == kSteps) continue;
      if (step > 0) wgmma_wait<1>();
      widen(step + 1);
      if (step + 2 == kSteps) release();
    }
    wgmma_wait<0>();
    sums.settle();
  }

 private:
  std::uint32_t stages_[2];
  std::uint32_t odd_;
  std::uint32_t raw_[2 * kBlocks][4];
  std::uint32_t a_[2][kBlocks * 16];
};

}  // namespace latentd::cuda

// The 512 + 64 attention over an fp8 cache: a worker's scores of a key tile.
#pragma once

#include <cstdint>

#include "engine/backend/cuda/kernels/mla_fp8_tile.cuh"
#include "engine/backend/cuda/kernels/register_products.cuh"

namespace latentd::cuda {

// A thread of a worker and its place in a tile of scores: keys `key` and key + 8, queries `column`
// and column + 1 of each 8.
struct MlaFp8Thread {
  // Found out anew for each piece: what follows from it would be held in memory between pieces.
  __device__ explicit MlaFp8Thread(int of_worker) : worker(of_worker) {
    int thread;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
    lane = thread % kWarp;
    warp = __shfl_sync(kAllLanes, thread % MlaFp8Tile::kGroupThreads / kWarp, 0);
    key = warp * 16 + lane / 4;
    column = lane % 4 * 2;
  }
  int worker;
  int lane;
  int warp;
  int key;
  int column;
};

// The scales of a thread's two keys. `stage`: that of the warp's keys.
struct MlaFp8Scales {
  float of[2][MlaFp8Tile::kScaleGroups];

  __device__ MlaFp8Scales(const MlaFp8Tile& tile, const MlaFp8Thread& self, int stage) {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const float4 own = tile.scales_of(stage, self.key % MlaFp8Tile::kStageKeys + row * 8);
      of[row][0] = own.x;
      of[row][1] = own.y;
      of[row][2] = own.z;
      of[row][3] = own.w;
    }
  }
  // Without NaN.
  __device__ float largest() const {
    float most = 0.0F;
#pragma unroll
    for (int i = 0; i < 8; ++i) most = fmaxf(most, of[i / 4][i % 4]);
    return most;
  }
};

// Where a thread finds its part of a stage's keys as the first operand of Q K^T.
template <int kCopiedKeys>
struct MlaFp8KeyRows {
  __device__ explicit MlaFp8KeyRows(const MlaFp8Thread& self) {
    const int row = self.lane % 8;
    const int matrix = self.lane / 8;  // keys 0..7, 8..15, and the same 16 bytes further
    const int key = self.warp % 2 * 16 + matrix % 2 * 8 + row;
    codes = static_cast<std::uint32_t>(MlaFp8Tile::code_offset<kCopiedKeys>(key, 0));
    rope = static_cast<std::uint32_t>(key * MlaFp8Tile::kRopeBytes);
    swizzle = static_cast<std::uint32_t>((matrix / 2) ^ row) * 16;
  }
  std::uint32_t codes;
  std::uint32_t rope;
  std::uint32_t swizzle;
};

// scores^T [64 keys, queries] = K Q^T. `stage`: that of the warp's keys. Products are of 16
// latents, of as many scale groups in turn as registers hold sums of; each sum is multiplied by its
// keys' scales.
template <int kCopiedKeys, int kQueries>
__device__ void mla_fp8_score_keys(
    const MlaFp8Tile& tile, const MlaFp8Thread& self, const MlaFp8KeyRows<kCopiedKeys>& rows,
    int stage, const hopper::OperandDescriptors<MlaFp8Tile::kQueryGroupBytes>& queries,
    float (&scores)[kQueries / 2]) {
  using namespace hopper;
  using Tile = MlaFp8Tile;
  constexpr int kGroups = kQueries == 16 ? 4 : 1;  // of a pass
  constexpr int kPasses = Tile::kScaleGroups / kGroups;
  constexpr int kChunks = kQueries == 16 ? 1 : 2;  // of 16 latents of each group, at a time
  constexpr int kBatches = 8 / kChunks;            // of a pass
  constexpr int kSteps = kPasses * kBatches;
  const std::uint32_t codes = tile.codes<kCopiedKeys>(stage) + rows.codes;
  const std::uint32_t rope = tile.rope<kCopiedKeys>(stage) + rows.rope;
  float sums[kGroups][kQueries / 2];
  std::uint32_t raw[kGroups][4];  // two chunks
  std::uint32_t a[2][kGroups * kChunks * 4];
  const auto load = [&](int chunk) {
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      const int block = chunk / 8 * kGroups + g;
      load_matrices(raw[g],
                    codes + static_cast<std::uint32_t>(Tile::code_offset<kCopiedKeys>(0, block)) +
                        (rows.swizzle ^ static_cast<std::uint32_t>(chunk % 8 * 16)));
    }
  };
  float scales[2][kGroups];
  const auto begin_pass = [&](int pass) {
    const float* from =
        tile.at<float>(Tile::kScales) +
        (stage * Tile::kStageKeys + self.key % Tile::kStageKeys) * Tile::kScaleGroups +
        pass * kGroups;
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      if constexpr (kGroups == 4) {
        const float4 own = *reinterpret_cast<const float4*>(from + row * 8 * Tile::kScaleGroups);
        scales[row][0] = own.x;
        scales[row][1] = own.y;
        scales[row][2] = own.z;
        scales[row][3] = own.w;
      } else {
        scales[row][0] = from[row * 8 * Tile::kScaleGroups];
      }
    }
  };
  const auto finish_pass = [&](int pass) {
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      float(&sum)[kQueries / 2] = sums[g];
      wgmma_results(sum);
#pragma unroll
      for (int i = 0; i < kQueries / 2; ++i) {
        scores[i] = fmaf(scales[i / 2 % 2][g], sum[i], scores[i]);
      }
    }
  };
  // Rope values as they are, into the scores themselves.
  std::uint32_t raw_rope[4][4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    load_matrices(raw_rope[i], rope + (rows.swizzle ^ static_cast<std::uint32_t>(i * 32)));
  }
  load(0);
  wgmma_fence();
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    multiply_bf16(scores, raw_rope[i], queries.at(kMlaLatent / 64 * Tile::kAtomBytes + i * 32),
                  i > 0);
  }
  wgmma_commit();
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    const int pass = step / kBatches;
    if (step >= 2) wgmma_wait<1>();
    if (step % kBatches == 0) begin_pass(pass);
    std::uint32_t(&to)[kGroups * kChunks * 4] = a[step % 2];
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
#pragma unroll
      for (int i = 0; i < 2 * kChunks; ++i) {
        const int at = (i / 2 * kGroups + g) * 4 + i % 2;
        const std::uint32_t from = raw[g][step * kChunks % 2 * 2 + i];
        to[at] = widen_low(from);
        to[at + 2] = widen_high(from);
      }
    }
    const int next = (step + 1) * kChunks;
    if (step + 1 < kSteps && next % 2 == 0) load(next);
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < kChunks * kGroups; ++i) {
      const int g = i % kGroups;
      const int chunk = step % kBatches * kChunks + i / kGroups;
      const int latent = (pass * kGroups + g) * 128 + chunk * 16;
      multiply_f16(sums[g], to + 4 * i,
                   queries.at(latent / 64 * Tile::kAtomBytes + latent % 64 * 2), chunk > 0);
    }
    wgmma_commit();
    if (pass + 1 < kPasses && step % kBatches == kBatches - 1) {
      wgmma_wait<0>();
      if (pass == 0) wgmma_results(scores);
      finish_pass(pass);
    }
  }
  wgmma_wait<0>();
  if (kPasses == 1) wgmma_results(scores);
  finish_pass(kPasses - 1);
}

}  // namespace latentd::cuda

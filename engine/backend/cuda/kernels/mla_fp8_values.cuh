// The 512 + 64 attention over an fp8 cache: the warpgroups that add values.
#pragma once

#include <cuda_bf16.h>

#include <cstddef>
#include <cstdint>

#include "engine/backend/cuda/kernels/mla_fp8_tile.cuh"
#include "engine/backend/cuda/kernels/mla_merge.cuh"
#include "engine/backend/cuda/kernels/register_products.cuh"
#include "engine/backend/cuda/mla_attention_params.h"

namespace latentd::cuda {

// sums^T [4][64 latents, queries] of a warpgroup. Thread t holds latents 2 (t % 32 / 4), + 1 of the
// 16 of its warp, queries as a scorer does.
template <int kQueries>
struct MlaFp8Sums {
  float block[4][kQueries / 2];
};

// Latents of a stage's keys as the first operand of two products: 16 of them, those of `block` that
// are the warp's.
template <int kCopiedKeys>
__device__ void mla_fp8_widen(const MlaFp8Tile& tile, int stage, int group, int block,
                              std::uint32_t* to) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) % MlaFp8Tile::kGroupThreads / kWarp;
  const int scale_group = group * 2 + block / 2;
  const int chunk = (block % 2 * 4 + warp) ^ (lane % 8);
  std::uint32_t raw[4];
  hopper::load_transposed(
      raw, tile.codes(stage) +
               static_cast<std::uint32_t>(MlaFp8Tile::code_offset<kCopiedKeys>(lane, scale_group) +
                                          chunk * 16));
  const auto* ratios = reinterpret_cast<const std::uint32_t*>(
                           tile.ratios(stage) + scale_group * MlaFp8Tile::kStageKeys) +
                       lane % 4;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    // Codes of two keys and two latents: from key by key to latent by latent.
    const std::uint32_t pairs = __byte_perm(raw[i], 0, 0x3120);
    const std::uint32_t ratio = ratios[i * 4];
    to[i * 2] = multiply_halves(widen_low(pairs), ratio);
    to[i * 2 + 1] = multiply_halves(widen_high(pairs), ratio);
  }
}

// Writes a unit's result, or a piece's part of it.
template <int kQueries>
__device__ void mla_fp8_store(const MlaFp8Tile& tile, int group, const MlaAttentionParams& p,
                              const MlaPiece& piece, int number, const MlaRows& rows, int rank,
                              const MlaFp8Sums<kQueries>& sums) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) % MlaFp8Tile::kGroupThreads / kWarp;
  const int latent = group * 256 + warp * 16 + lane / 4 * 2;
  const auto partial =
      static_cast<std::size_t>(mla_partial_row(piece, p.division, piece.index, rank));
  const float unit = tile.unit(number);
#pragma unroll
  for (int n = 0; n < kQueries / 8; ++n) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int r = n * 8 + lane % 4 * 2 + c;
      if (r >= rows.count) continue;
      const float2 run = tile.runs(number)[r];
      if (piece.count == 1) {
        const float factor = unit / run.y;
        auto* out = static_cast<__nv_bfloat16*>(p.attention.out) +
                    static_cast<std::size_t>(rows.row + r) * kMlaLatent + latent;
#pragma unroll
        for (int b = 0; b < 4; ++b) {
          *reinterpret_cast<__nv_bfloat162*>(out + b * 64) = __floats2bfloat162_rn(
              sums.block[b][4 * n + c] * factor, sums.block[b][4 * n + 2 + c] * factor);
        }
      } else {
        const std::size_t at = partial + static_cast<std::size_t>(r);
        float* out = static_cast<float*>(p.partials.sums) + at * kMlaLatent + latent;
#pragma unroll
        for (int b = 0; b < 4; ++b) {
          *reinterpret_cast<float2*>(out + b * 64) =
              float2{sums.block[b][4 * n + c] * unit, sums.block[b][4 * n + 2 + c] * unit};
        }
        if (group == 0 && warp == 0 && lane < 4) p.partials.runs[at] = run;
      }
    }
  }
}

// Warpgroup `group` of two: sums of a piece.
template <int kCopiedKeys, int kQueries>
__device__ void mla_fp8_value_piece(const MlaFp8Tile& tile, const MlaAttentionParams& p,
                                    const MlaPiece& piece, const MlaRows& rows, int group, int rank,
                                    MlaFp8Progress& done) {
  using namespace hopper;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const OperandDescriptors<MlaFp8Tile::kAtomBytes> weights(tile.weights());
  MlaFp8Sums<kQueries> sums;
#pragma unroll
  for (int b = 0; b < 4; ++b) {
#pragma unroll
    for (int i = 0; i < kQueries / 2; ++i) sums.block[b][i] = 0.0F;
  }
  for (int t = piece.first_tile; t < piece.last_tile; ++t, ++done.tiles) {
    MlaFp8Cursor at[2];
    at[0] = done.at;
    done.at.advance();
    at[1] = done.at;
    done.at.advance();
    at[0].wait(tile);
    at[1].wait(tile);
    // Operands are of a block and one of the two stages. As many as registers allow are ready
    // before their weights.
    constexpr int kOperands = 8;
    constexpr int kReady = kQueries < 64 ? kOperands : 2;
    std::uint32_t a[kReady][8];
    const auto widen = [&](int i) {
      mla_fp8_widen<kCopiedKeys>(tile, at[i % 2].stage, group, i / 2, a[i % kReady]);
    };
    const auto multiply = [&](int i, int k) {
      multiply_f16(sums.block[i / 2], a[i % kReady] + 4 * k, weights.at((i % 2 * 2 + k) * 32),
                   true);
    };
#pragma unroll
    for (int i = 0; i < kReady; ++i) widen(i);
    barrier_wait(tile.weights_full(), static_cast<std::uint32_t>(done.tiles) & 1U);
    if (tile.shrinks(done.tiles) != 0) {
#pragma unroll
      for (int n = 0; n < kQueries / 8; ++n) {
        const float2 keep =
            *reinterpret_cast<const float2*>(tile.keep(done.tiles) + n * 8 + lane % 4 * 2);
#pragma unroll
        for (int i = 0; i < 16; ++i) {
          sums.block[i / 4][4 * n + i % 4] *= i % 2 == 0 ? keep.x : keep.y;
        }
      }
    }
#pragma unroll
    for (int b = 0; b < 4; ++b) wgmma_results(sums.block[b]);
    if constexpr (kReady == kOperands) {
      // One block after the other: small products wait for those before into the same sums.
      wgmma_fence();
#pragma unroll
      for (int i = 0; i < 16; ++i) multiply(i % 4 * 2 + i / 8, i / 4 % 2);
      wgmma_commit();
    } else {
#pragma unroll
      for (int i = 0; i < kOperands; ++i) {
        wgmma_fence();
        multiply(i, 0);
        multiply(i, 1);
        wgmma_commit();
        if (i == 0 || i + 1 == kOperands) continue;
        wgmma_wait<1>();
        widen(i + 1);
      }
    }
    wgmma_wait<0>();
#pragma unroll
    for (int b = 0; b < 4; ++b) wgmma_results(sums.block[b]);
    if (lane == 0) {
      barrier_arrive(tile.weights_empty());
      barrier_arrive(tile.empty(at[0].stage));
      barrier_arrive(tile.empty(at[1].stage));
    }
  }
  mla_fp8_store<kQueries>(tile, group, p, piece, done.pieces, rows, rank, sums);
  ++done.pieces;
  if (piece.count > 1) {
    mla_arrive(mla_counter(p, piece, rank), threadIdx.x % MlaTile::kValueThreads == 0);
  }
}

template <int kCopiedKeys>
__device__ void mla_fp8_values(const MlaFp8Tile& tile, const MlaAttentionParams& p, int group,
                               int share, int rank) {
  MlaFp8Progress done;
  for (MlaPieces pieces(p, share); pieces.more(); pieces.next()) {
    const MlaRows rows(pieces.piece, p.division, rank);
    if (rows.count <= 0) continue;
    if (rows.count <= 16) {
      mla_fp8_value_piece<kCopiedKeys, 16>(tile, p, pieces.piece, rows, group, rank, done);
    } else if (rows.count <= 32) {
      mla_fp8_value_piece<kCopiedKeys, 32>(tile, p, pieces.piece, rows, group, rank, done);
    } else {
      mla_fp8_value_piece<kCopiedKeys, 64>(tile, p, pieces.piece, rows, group, rank, done);
    }
  }
}

}  // namespace latentd::cuda

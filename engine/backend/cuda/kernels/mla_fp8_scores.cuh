// The 512 + 64 attention over an fp8 cache: the warpgroup that scores.
#pragma once

#include <cstdint>

#include "engine/backend/cuda/kernels/mla_fp8_queries.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_softmax.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_tile.cuh"
#include "engine/backend/cuda/kernels/register_products.cuh"
#include "engine/backend/cuda/mla_attention_params.h"

namespace latentd::cuda {

// scores^T [64 keys, queries] = K Q^T / R.
template <int kCopiedKeys, int kQueries>
__device__ void mla_fp8_score_keys(const MlaFp8Tile& tile, const MlaFp8Scorer& self, int stage,
                                   float (&scores)[kQueries / 2]) {
  using namespace hopper;
  using Tile = MlaFp8Tile;
  // Small products wait for one another: several sums take turns.
  constexpr int kSums = 64 / kQueries;
  constexpr int kBatches = 8;  // of 64 latents, four products
  const OperandDescriptors<Tile::kQueryGroupBytes> queries(tile.queries());
  const int row = self.lane % 8;
  const int matrix = self.lane / 8;  // keys 0..7, 8..15, and the same 16 bytes further
  const int keys = self.warp % 2 * 16 + matrix % 2 * 8;
  const std::uint32_t swizzle = static_cast<std::uint32_t>((matrix / 2) ^ row) * 16;
  const std::uint32_t codes =
      tile.codes(stage) + static_cast<std::uint32_t>(Tile::code_offset<kCopiedKeys>(keys + row, 0));
  const std::uint32_t rope =
      tile.rope(stage) + static_cast<std::uint32_t>((keys + row) * Tile::kRopeBytes);
  const int key = self.key % Tile::kStageKeys;
  const std::uint16_t* ratios = tile.ratios(stage) + key;
  float sums[kSums][kQueries / 2];
  std::uint32_t raw[2][2][4];
  std::uint32_t ratio[2][2];
  std::uint32_t a[2][16];
  const auto load = [&](int batch) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      load_matrices(raw[batch % 2][i],
                    codes +
                        static_cast<std::uint32_t>(Tile::code_offset<kCopiedKeys>(0, batch / 2)) +
                        (swizzle ^ static_cast<std::uint32_t>(batch % 2 * 64 + i * 32)));
      ratio[batch % 2][i] = ratios[batch / 2 * Tile::kStageKeys + i * 8] * 0x10001U;
    }
  };
  load(0);
#pragma unroll
  for (int batch = 0; batch < kBatches; ++batch) {
    if (batch + 1 < kBatches) load(batch + 1);
    if (batch >= 2) wgmma_wait<1>();
    std::uint32_t(&to)[16] = a[batch % 2];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const std::uint32_t from = raw[batch % 2][i / 2][i % 2 * 2 + half];
        to[4 * i + half] = multiply_halves(widen_low(from), ratio[batch % 2][half]);
        to[4 * i + 2 + half] = multiply_halves(widen_high(from), ratio[batch % 2][half]);
      }
    }
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      multiply_f16(sums[i % kSums], to + 4 * i, queries.at(batch * Tile::kAtomBytes + i * 32),
                   batch * 4 + i >= kSums);
    }
    wgmma_commit();
  }
  std::uint32_t raw_rope[4][4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    load_matrices(raw_rope[i], rope + (swizzle ^ static_cast<std::uint32_t>(i * 32)));
  }
  const std::uint32_t inverse[2] = {
      (__float_as_uint(inverse_power(tile.largest(stage)[key])) >> 16) * 0x10001U,
      (__float_as_uint(inverse_power(tile.largest(stage)[key + 8])) >> 16) * 0x10001U};
  wgmma_wait<1>();
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    a[0][i] = multiply_bf16_pairs(raw_rope[i / 4][i % 4], inverse[i % 2]);
  }
  wgmma_fence();
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    multiply_bf16(sums[i % kSums], a[0] + 4 * i, queries.at(kBatches * Tile::kAtomBytes + i * 32),
                  true);
  }
  wgmma_commit();
  wgmma_wait<0>();
#pragma unroll
  for (int i = 0; i < kSums; ++i) wgmma_results(sums[i]);
#pragma unroll
  for (int i = 0; i < kQueries / 2; ++i) {
    scores[i] = sums[0][i];
#pragma unroll
    for (int other = 1; other < kSums; ++other) scores[i] += sums[other][i];
  }
}

// One warpgroup: scores and weights of a piece, a tile ahead of the values.
template <int kCopiedKeys, int kQueries>
__device__ void mla_fp8_score_piece(const MlaFp8Tile& tile, const MlaAttentionParams& p,
                                    const MlaPiece& piece, const MlaRows& rows,
                                    MlaFp8Progress& done) {
  using namespace hopper;
  const MlaFp8Scorer self;
  mla_fp8_begin_piece<kQueries>(tile, p, piece, rows);
  MlaFp8Softmax<kQueries> softmax;
  for (int t = piece.first_tile; t < piece.last_tile; ++t, ++done.tiles) {
    const int first = done.at.stage;
    done.at.wait(tile);
    done.at.advance();
    const int second = done.at.stage;
    done.at.wait(tile);
    done.at.advance();
    float scores[kQueries / 2];
    mla_fp8_score_keys<kCopiedKeys, kQueries>(tile, self, self.warp < 2 ? first : second, scores);
    const int number = t - piece.first_tile;
    softmax.step(tile, self, number, done.tiles, t * kMlaTileKeys, first, second, scores);
    if (t == piece.last_tile - 1) softmax.finish(tile, self, number, done.pieces);
    barrier_wait(tile.weights_empty(), static_cast<std::uint32_t>(done.tiles + 1) & 1U);
    mla_fp8_store_weights<kQueries>(tile, self, scores);
    fence_async_shared();
    __syncwarp();
    if (self.lane == 0) barrier_arrive(tile.weights_full());
  }
  ++done.pieces;
}

template <int kCopiedKeys>
__device__ void mla_fp8_score(const MlaFp8Tile& tile, const MlaAttentionParams& p, int share,
                              int rank) {
  MlaFp8Progress done;
  for (MlaPieces pieces(p, share); pieces.more(); pieces.next()) {
    const MlaRows rows(pieces.piece, p.division, rank);
    if (rows.count <= 0) continue;
    if (rows.count <= 16) {
      mla_fp8_score_piece<kCopiedKeys, 16>(tile, p, pieces.piece, rows, done);
    } else if (rows.count <= 32) {
      mla_fp8_score_piece<kCopiedKeys, 32>(tile, p, pieces.piece, rows, done);
    } else {
      mla_fp8_score_piece<kCopiedKeys, 64>(tile, p, pieces.piece, rows, done);
    }
  }
}

}  // namespace latentd::cuda

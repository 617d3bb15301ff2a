// Products of few tokens: weights stream through tensor cores once, at the speed of memory.
//
// Weights lie on M, tokens on N. A warp owns a slab of weight rows and a tile of token rows for the
// whole of k, so a value is one chain of mma instructions over ascending k whatever else the step
// holds: its bits do not depend on the number of tokens. Each warp keeps its own ring of stages
// filled by asynchronous copies that run ahead across slabs; warps never wait for one another.
//
// Contract: bf16 rows whose addresses and lengths are multiples of 16 bytes.
#pragma once

#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/kernels/tensor_core.cuh"

namespace latentd::cuda {

// A warp's slab: 16 * kWeights_ weight rows and 8 * kTokens_ token rows, kDepth_ values of k a
// stage.
template <int kWeights_, int kTokens_, int kDepth_, int kStages_>
struct StreamShape {
  static constexpr int kWarps = 8;
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kWeights = kWeights_;
  static constexpr int kTokens = kTokens_;
  static constexpr int kDepth = kDepth_;
  static constexpr int kStages = kStages_;
  static constexpr int kWeightRows = 16 * kWeights;
  static constexpr int kTokenRows = 8 * kTokens;
  static constexpr int kRowBytes = kDepth * 2;
  static constexpr int kPieces = kRowBytes / kPieceBytes;  // of a row
  static constexpr int kCopyRows = kWarp / kPieces;        // that one copy of a warp fills
  static constexpr int kWeightCopies = kWeightRows / kCopyRows;
  static constexpr int kTokenCopies = kTokenRows / kCopyRows;
  static constexpr int kStageBytes = (kWeightRows + kTokenRows) * kRowBytes;
  static constexpr int kSharedBytes = kWarps * kStages * kStageBytes;
  static_assert(kDepth % 32 == 0 && kPieces >= 8);
};

// Where a lane's copies of a slab begin: piece lane % kPieces of rows lane / kPieces, + kCopyRows,
// ... of the slab.
template <typename Shape>
struct StreamRows {
  const char* weights[Shape::kWeightCopies];  // null: no such row
  const char* tokens[Shape::kTokenCopies];    // null: no such token

  __device__ static int row(int copy) {
    return copy * Shape::kCopyRows + static_cast<int>(threadIdx.x) % kWarp / Shape::kPieces;
  }
};

template <typename Shape>
using StreamAccumulator = float[Shape::kWeights][Shape::kTokens][4];

// Pieces are placed so that neither copies nor fragment loads meet in a bank.
template <typename Shape>
__device__ inline std::uint32_t stage_piece(std::uint32_t stage, int row, int piece) {
  return stage +
         static_cast<std::uint32_t>(row * Shape::kRowBytes + (piece ^ (row & 7)) * kPieceBytes);
}

template <typename Shape>
__device__ inline void load_stage(std::uint32_t stage, const StreamRows<Shape>& rows, int k0,
                                  int inner) {
  const int piece = static_cast<int>(threadIdx.x) % Shape::kPieces;
  const bool inside = k0 + piece * (kPieceBytes / 2) < inner;
  const std::size_t offset = inside ? static_cast<std::size_t>(k0) * 2 : 0;
#pragma unroll
  for (int i = 0; i < Shape::kWeightCopies; ++i) {
    if (rows.weights[i] == nullptr) continue;
    copy_piece(stage_piece<Shape>(stage, StreamRows<Shape>::row(i), piece),
               rows.weights[i] + offset, inside);
  }
#pragma unroll
  for (int i = 0; i < Shape::kTokenCopies; ++i) {
    if (rows.tokens[i] == nullptr) continue;
    copy_piece(stage_piece<Shape>(stage, Shape::kWeightRows + StreamRows<Shape>::row(i), piece),
               rows.tokens[i] + offset, inside);
  }
}

template <typename Shape>
__device__ inline void multiply_stage(StreamAccumulator<Shape>& acc, std::uint32_t stage, int depth,
                                      int num_tokens) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int pair = 0; pair < Shape::kDepth / 32; ++pair) {
    if (pair * 32 >= depth) break;
    std::uint32_t a[2][Shape::kWeights][4];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int m = 0; m < Shape::kWeights; ++m) {
        load_matrices(a[half][m], stage_piece<Shape>(stage, m * 16 + lane % 16,
                                                     pair * 4 + half * 2 + lane / 16));
      }
    }
#pragma unroll
    for (int n = 0; n < Shape::kTokens; ++n) {
      if (n * 8 >= num_tokens) break;
      std::uint32_t b[4];
      load_matrices(
          b, stage_piece<Shape>(stage, Shape::kWeightRows + n * 8 + lane % 8, pair * 4 + lane / 8));
#pragma unroll
      for (int m = 0; m < Shape::kWeights; ++m) {
        multiply_add(acc[m][n], a[0][m], b[0], b[1]);
        if (pair * 32 + 16 < depth) multiply_add(acc[m][n], a[1][m], b[2], b[3]);
      }
    }
  }
}

// Runs all of `work`'s items over the grid. Work has
//   int num_items(), int inner()
//   void locate(item, StreamRows&)     where the item's rows lie, for this lane
//   int num_tokens(item)               of its tile
//   void finish(item, acc)             stores what the warp computed
template <typename Shape, typename Work>
__device__ inline void stream_weights(const Work& work, char* shared) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const std::uint32_t ring = shared_address(shared) +
                             static_cast<std::uint32_t>(warp * Shape::kStages * Shape::kStageBytes);
  // Neighbouring items go to different blocks, so that a few items use all of the memory's width.
  const int first = warp * static_cast<int>(gridDim.x) + static_cast<int>(blockIdx.x);
  const int step = Shape::kWarps * static_cast<int>(gridDim.x);
  const int num_items = work.num_items();
  const int inner = work.inner();

  StreamRows<Shape> rows;
  int ahead_item = first;
  int ahead_k = 0;
  const auto load_ahead = [&](int slot) {
    if (ahead_item < num_items) {
      if (ahead_k == 0) work.locate(ahead_item, rows);
      load_stage<Shape>(ring + static_cast<std::uint32_t>(slot * Shape::kStageBytes), rows, ahead_k,
                        inner);
      ahead_k += Shape::kDepth;
      if (ahead_k >= inner) {
        ahead_k = 0;
        ahead_item += step;
      }
    }
    commit_copies();
  };
  for (int slot = 0; slot < Shape::kStages - 1; ++slot) load_ahead(slot);

  int slot = 0;
  for (int item = first; item < num_items; item += step) {
    StreamAccumulator<Shape> acc = {};
    const int num_tokens = work.num_tokens(item);
    for (int k0 = 0; k0 < inner; k0 += Shape::kDepth) {
      wait_copies<Shape::kStages - 2>();
      __syncwarp();
      load_ahead(slot == 0 ? Shape::kStages - 1 : slot - 1);
      multiply_stage<Shape>(acc, ring + static_cast<std::uint32_t>(slot * Shape::kStageBytes),
                            inner - k0, num_tokens);
      slot = slot + 1 == Shape::kStages ? 0 : slot + 1;
    }
    work.finish(item, acc);
  }
}

}  // namespace latentd::cuda

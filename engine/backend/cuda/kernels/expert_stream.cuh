// experts in bf16 on tensor cores: gate and up with the activation, down, and the sum.
#pragma once

#include <cstddef>

#include "engine/backend/cuda/kernels/dependent_launch.cuh"
#include "engine/backend/cuda/kernels/elements.cuh"
#include "engine/backend/cuda/kernels/expert_work.cuh"
#include "engine/backend/cuda/kernels/weight_stream.cuh"

namespace latentd::cuda {

// act[entry] = silu(gate x) * up x. A slab interleaves 8 rows of gate with the 8 rows of up that
// belong to them, so that one thread holds both.
template <typename Shape>
struct GateUpWork : ExpertWork {
  static constexpr int kColumns = 8 * Shape::kWeights;  // of inner, a slab

  __device__ int inner() const { return p.hidden_size; }

  __device__ void locate(int item, StreamRows<Shape>& rows) const {
    const ExpertPart& t = part(item);
    const ExpertMatrices& w = t.matrices;
    const int first = item % slabs * kColumns;
    const std::size_t pitch = static_cast<std::size_t>(p.hidden_size) * 2;
    const int piece = static_cast<int>(threadIdx.x) % Shape::kPieces * kPieceBytes;
#pragma unroll
    for (int i = 0; i < Shape::kWeightCopies; ++i) {
      const int row = StreamRows<Shape>::row(i);
      const int column = min(first + row / 16 * 8 + row % 8, p.inner - 1);
      const void* matrix = row % 16 < 8 ? w.gate : w.up;
      rows.weights[i] = static_cast<const char*>(matrix) + pitch * column + piece;
    }
#pragma unroll
    for (int i = 0; i < Shape::kTokenCopies; ++i) {
      const char* row = x_row(t, StreamRows<Shape>::row(i));
      rows.tokens[i] = row == nullptr ? nullptr : row + piece;
    }
  }

  __device__ void finish(int item, const StreamAccumulator<Shape>& acc) const {
    const ExpertPart& t = part(item);
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    auto* act = static_cast<__nv_bfloat16*>(p.act);
#pragma unroll
    for (int n = 0; n < Shape::kTokens; ++n) {
#pragma unroll
      for (int side = 0; side < 2; ++side) {
        const int row = n * 8 + lane % 4 * 2 + side;
        if (row >= t.count) continue;
        const std::size_t to = static_cast<std::size_t>(entry(t.first + row)) * p.inner;
#pragma unroll
        for (int m = 0; m < Shape::kWeights; ++m) {
          const int column = item % slabs * kColumns + m * 8 + lane / 4;
          if (column >= p.inner) continue;
          act[to + column] = __float2bfloat16_rn(silu(acc[m][n][side]) * acc[m][n][2 + side]);
        }
      }
    }
  }
};

// given[entry] = down act.
template <typename Shape>
struct DownWork : ExpertWork {
  __device__ int inner() const { return p.inner; }

  __device__ void locate(int item, StreamRows<Shape>& rows) const {
    const ExpertPart& t = part(item);
    const ExpertMatrices& w = t.matrices;
    const int first = item % slabs * Shape::kWeightRows;
    const std::size_t pitch = static_cast<std::size_t>(w.down_stride) * 2;
    const int piece = static_cast<int>(threadIdx.x) % Shape::kPieces * kPieceBytes;
#pragma unroll
    for (int i = 0; i < Shape::kWeightCopies; ++i) {
      const int row = min(first + StreamRows<Shape>::row(i), p.hidden_size - 1);
      rows.weights[i] = static_cast<const char*>(w.down) + pitch * row + piece;
    }
#pragma unroll
    for (int i = 0; i < Shape::kTokenCopies; ++i) {
      const char* row = act_row(t, StreamRows<Shape>::row(i));
      rows.tokens[i] = row == nullptr ? nullptr : row + piece;
    }
  }

  __device__ void finish(int item, const StreamAccumulator<Shape>& acc) const {
    const ExpertPart& t = part(item);
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int n = 0; n < Shape::kTokens; ++n) {
#pragma unroll
      for (int side = 0; side < 2; ++side) {
        const int row = n * 8 + lane % 4 * 2 + side;
        if (row >= t.count) continue;
        auto* to = static_cast<__nv_bfloat16*>(p.given) +
                   static_cast<std::size_t>(entry(t.first + row)) * p.hidden_size;
#pragma unroll
        for (int m = 0; m < Shape::kWeights; ++m) {
          const int column = item % slabs * Shape::kWeightRows + m * 16 + lane / 4;
          if (column < p.hidden_size) to[column] = __float2bfloat16_rn(acc[m][n][side]);
          if (column + 8 < p.hidden_size) {
            to[column + 8] = __float2bfloat16_rn(acc[m][n][2 + side]);
          }
        }
      }
    }
  }
};

template <typename Shape>
__global__ void __launch_bounds__(Shape::kThreads, 1)
    stream_gate_up_kernel(const __grid_constant__ ExpertStep p) {
  extern __shared__ __align__(128) char stream_memory[];
  __shared__ SharedExpertOrder sorted;
  await_previous_launch();
  let_next_launch_begin();
  constexpr int kColumns = GateUpWork<Shape>::kColumns;
  stream_weights<Shape>(GateUpWork<Shape>{{p, sorted.copy(p), (p.inner + kColumns - 1) / kColumns}},
                        stream_memory);
}

template <typename Shape>
__global__ void __launch_bounds__(Shape::kThreads, 1)
    stream_down_kernel(const __grid_constant__ ExpertStep p) {
  extern __shared__ __align__(128) char stream_memory[];
  __shared__ SharedExpertOrder sorted;
  await_previous_launch();
  let_next_launch_begin();
  constexpr int kRows = Shape::kWeightRows;
  stream_weights<Shape>(DownWork<Shape>{{p, sorted.copy(p), (p.hidden_size + kRows - 1) / kRows}},
                        stream_memory);
}

__device__ inline void add_eight(float (&sum)[8], const __nv_bfloat16* given, float weight) {
  float values[8];
  unpack_eight(*reinterpret_cast<const uint4*>(given), values);
#pragma unroll
  for (int i = 0; i < 8; ++i) sum[i] = fmaf(weight, values[i], sum[i]);
}

// hidden[t] += sum of weight * given, experts in index order, then the shared ones. Grid: tokens;
// a thread has 8 columns at a time.
__global__ void sum_experts_kernel(const __grid_constant__ ExpertStep p) {
  await_previous_launch();
  let_next_launch_begin();
  const std::size_t t = blockIdx.x;
  auto* hidden = static_cast<__nv_bfloat16*>(p.hidden) + t * p.hidden_size;
  const auto* given = static_cast<const __nv_bfloat16*>(p.given);
  const std::size_t first = t * p.experts_per_token;
  for (int c = 8 * static_cast<int>(threadIdx.x); c < p.hidden_size; c += 8 * blockDim.x) {
    float sum[8];
    unpack_eight(*reinterpret_cast<const uint4*>(hidden + c), sum);
    for (int k = 0; k < p.experts_per_token; ++k) {
      add_eight(sum, given + (first + k) * p.hidden_size + c, p.expert_weights[first + k]);
    }
    for (int s = 0; s < p.shared_experts; ++s) {
      const std::size_t entry = p.num_entries + s * static_cast<std::size_t>(p.num_tokens) + t;
      add_eight(sum, given + entry * p.hidden_size + c, 1.0F);
    }
    if (p.shared != nullptr) {
#pragma unroll
      for (int i = 0; i < 8; ++i) sum[i] += p.shared[t * p.hidden_size + c + i];
    }
    *reinterpret_cast<uint4*>(hidden + c) = pack_eight(sum);
  }
}

}  // namespace latentd::cuda

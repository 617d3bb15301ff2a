#include "engine/backend/cuda/expert_policy.h"
#include "engine/backend/cuda/kernels/dependent_launch.cuh"
#include "engine/backend/cuda/kernels/expert_sort.cuh"
#include "engine/backend/cuda/kernels/expert_stream.cuh"
#include "engine/backend/cuda/kernels/expert_tiles.cuh"
#include "engine/backend/cuda/kernels/experts.cuh"
#include "engine/backend/cuda/kernels/gate.cuh"
#include "engine/backend/cuda/kernels/route.cuh"
#include "engine/backend/cuda/kernels/stream_launch.cuh"
#include "engine/backend/cuda/kernels/turn_launch.cuh"
#include "engine/backend/cuda/launch.h"
#include "engine/backend/cuda/tensor_map.h"

namespace latentd::cuda {
namespace {

constexpr int kSumThreads = 256;

unsigned tiles(int size) { return static_cast<unsigned>((size + kTile - 1) / kTile); }

cudaError_t launch_sort(cudaStream_t stream, const ExpertStep& p) {
  const auto experts = static_cast<unsigned>(p.num_experts + p.shared_experts);
  const std::size_t bytes = static_cast<std::size_t>(p.num_experts) * sizeof(int);
  return launch_dependent(p.early, sort_entries_kernel, dim3(experts), kSortThreads, bytes, stream,
                          p);
}

// gate, up and down by warp groups: part_tokens is that of a TurnShape.
cudaError_t launch_expert_tiles(cudaStream_t stream, const ExpertStep& p) {
  ExpertTileStep t{};
  t.step = p;
  t.sorted = p.given;  // nobody reads x any more when that is written
  const int entries = p.num_entries + p.shared_experts * p.num_tokens;
  for (int i = 0; i < 2; ++i) {
    const int rows = i == 0 ? kTokenBox : kTokenStep;
    if (!make_tensor_map(t.x[i], p.x, p.hidden_size, p.num_tokens, kTileK, rows) ||
        !make_tensor_map(t.sorted_x[i], t.sorted, p.hidden_size, p.num_entries, kTileK, rows) ||
        !make_tensor_map(t.act[i], p.act, p.inner, entries, kTileK, rows)) {
      return cudaErrorInvalidValue;
    }
  }
  const int blocks = (p.num_entries + kSortedRowsOfBlock - 1) / kSortedRowsOfBlock;
  const cudaError_t sorted =
      launch_dependent(p.early, sort_rows_kernel, dim3(static_cast<unsigned>(blocks)),
                       kSortedRowsOfBlock * kWarp, 0, stream, t);
  if (sorted != cudaSuccess) return sorted;
  return with_turn_shape(p.part_tokens, [&](auto shape) {
    using Shape = decltype(shape);
    const cudaError_t first = launch_turns<Shape>(p.early, tile_gate_up_kernel<Shape>, stream, t);
    if (first != cudaSuccess) return first;
    return launch_turns<Shape>(p.early, tile_down_kernel<Shape>, stream, t);
  });
}

}  // namespace

cudaError_t launch_route(cudaStream_t stream, const RouteParams& p) {
  if (p.num_tokens == 0) return cudaSuccess;
  const std::size_t bytes =
      static_cast<std::size_t>(route_shared_floats(p.routing.num_experts)) * sizeof(float);
  route_kernel<<<static_cast<unsigned>(p.num_tokens), kWarp, bytes, stream>>>(p);
  return cudaGetLastError();
}

cudaError_t launch_experts(cudaStream_t stream, const ExpertStep& p) {
  if (p.num_tokens == 0) return cudaSuccess;
  const auto parts =
      static_cast<unsigned>(most_expert_parts(p.num_entries, p.num_experts, p.part_tokens));
  const cudaError_t sorted = launch_sort(stream, p);
  if (sorted != cudaSuccess) return sorted;
  expert_gate_up_kernel<<<dim3(tiles(p.inner), parts), kTileThreads, 0, stream>>>(p);
  expert_down_kernel<<<dim3(tiles(p.hidden_size), parts), kTileThreads, 0, stream>>>(p);
  combine_experts_kernel<<<static_cast<unsigned>(p.num_tokens), kSumThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

cudaError_t launch_gate(cudaStream_t stream, const GateStep& p) {
  const ExpertStep& s = p.experts;
  if (s.num_tokens == 0) return cudaSuccess;
  const std::size_t bytes = gate_shared_bytes(s.hidden_size, s.num_experts);
  const dim3 grid(kGateBlocks, static_cast<unsigned>(s.num_tokens));
  return launch_dependent(s.early, gate_kernel, grid, kGateThreads, bytes, stream, p);
}

cudaError_t launch_experts_on_tensor_cores(cudaStream_t stream, const ExpertStep& p) {
  if (p.num_tokens == 0) return cudaSuccess;
  cudaError_t error = p.sorted ? cudaSuccess : launch_sort(stream, p);
  if (error != cudaSuccess) return error;
  if (p.part_tokens >= kNarrowPart) {
    error = launch_expert_tiles(stream, p);
  } else {
    error = with_stream_shape(p.part_tokens, [&](auto shape) {
      using Shape = decltype(shape);
      const cudaError_t first =
          launch_stream<Shape>(p.early, stream_gate_up_kernel<Shape>, stream, p);
      if (first != cudaSuccess) return first;
      return launch_stream<Shape>(p.early, stream_down_kernel<Shape>, stream, p);
    });
  }
  if (error != cudaSuccess) return error;
  return launch_dependent(p.early, sum_experts_kernel, dim3(static_cast<unsigned>(p.num_tokens)),
                          kSumThreads, 0, stream, p);
}

}  // namespace latentd::cuda

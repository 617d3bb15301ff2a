#include "engine/backend/cuda/expert_policy.h"
#include "engine/backend/cuda/kernels/expert_sort.cuh"
#include "engine/backend/cuda/kernels/expert_stream.cuh"
#include "engine/backend/cuda/kernels/expert_tiles.cuh"
#include "engine/backend/cuda/kernels/experts.cuh"
#include "engine/backend/cuda/kernels/stream_launch.cuh"
#include "engine/backend/cuda/launch.h"

namespace latentd::cuda {
namespace {

static_assert(kTilePart == kTileTokens);

constexpr int kSumThreads = 256;

unsigned tiles(int size) { return static_cast<unsigned>((size + kTile - 1) / kTile); }

void launch_sort(cudaStream_t stream, const ExpertStep& p) {
  const auto experts = static_cast<unsigned>(p.num_experts + p.shared_experts);
  const std::size_t bytes = static_cast<std::size_t>(p.num_experts) * sizeof(int);
  sort_entries_kernel<<<experts, kSortThreads, bytes, stream>>>(p);
}

}  // namespace

cudaError_t launch_experts(cudaStream_t stream, const ExpertStep& p) {
  if (p.num_tokens == 0) return cudaSuccess;
  const auto parts =
      static_cast<unsigned>(most_expert_parts(p.num_entries, p.num_experts, p.part_tokens));
  launch_sort(stream, p);
  expert_gate_up_kernel<<<dim3(tiles(p.inner), parts), kTileThreads, 0, stream>>>(p);
  expert_down_kernel<<<dim3(tiles(p.hidden_size), parts), kTileThreads, 0, stream>>>(p);
  combine_experts_kernel<<<static_cast<unsigned>(p.num_tokens), kSumThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

cudaError_t launch_experts_on_tensor_cores(cudaStream_t stream, const ExpertStep& p) {
  if (p.num_tokens == 0) return cudaSuccess;
  launch_sort(stream, p);
  cudaError_t error = cudaSuccess;
  if (p.part_tokens == kTilePart) {
    error = launch_tiles(tile_gate_up_kernel, stream, p);
    if (error == cudaSuccess) error = launch_tiles(tile_down_kernel, stream, p);
  } else {
    error = with_stream_shape(p.part_tokens, [&](auto shape) {
      using Shape = decltype(shape);
      const cudaError_t first = launch_stream<Shape>(stream_gate_up_kernel<Shape>, stream, p);
      if (first != cudaSuccess) return first;
      return launch_stream<Shape>(stream_down_kernel<Shape>, stream, p);
    });
  }
  if (error != cudaSuccess) return error;
  sum_experts_kernel<<<static_cast<unsigned>(p.num_tokens), kSumThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

}  // namespace latentd::cuda

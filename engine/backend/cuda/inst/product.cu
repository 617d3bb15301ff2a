#include "engine/backend/cuda/kernels/experts.cuh"
#include "engine/backend/cuda/kernels/product_tile.cuh"
#include "engine/backend/cuda/launch.h"

namespace latentd::cuda {
namespace {

constexpr int kCombineThreads = 256;

unsigned tiles(int size) { return static_cast<unsigned>((size + kTile - 1) / kTile); }

}  // namespace

cudaError_t launch_product(cudaStream_t stream, const Product& p) {
  if (p.rows == 0 || p.columns == 0 || p.batch == 0) return cudaSuccess;
  const dim3 grid(tiles(p.columns), tiles(p.rows), static_cast<unsigned>(p.batch));
  product_kernel<<<grid, kTileThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

cudaError_t launch_experts(cudaStream_t stream, const ExpertStep& p) {
  if (p.num_tokens == 0) return cudaSuccess;
  const auto experts = static_cast<unsigned>(p.num_experts);
  const auto expert_tiles = static_cast<unsigned>(most_expert_tiles(p.num_entries, p.num_experts));
  count_entries_kernel<<<experts, kSortThreads, 0, stream>>>(p);
  place_entries_kernel<<<experts, kSortThreads, 0, stream>>>(p);
  expert_gate_up_kernel<<<dim3(tiles(p.inner), expert_tiles), kTileThreads, 0, stream>>>(p);
  expert_down_kernel<<<dim3(tiles(p.hidden_size), expert_tiles), kTileThreads, 0, stream>>>(p);
  combine_experts_kernel<<<static_cast<unsigned>(p.num_tokens), kCombineThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

}  // namespace latentd::cuda

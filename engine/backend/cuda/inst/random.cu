#include <algorithm>

#include "engine/backend/cuda/kernels/fill_random.cuh"
#include "engine/backend/cuda/launch.h"

namespace latentd::cuda {

cudaError_t launch_fill_random(cudaStream_t stream, const RandomTensor& tensor, void* data) {
  constexpr std::size_t kThreads = 256;
  constexpr std::size_t kMostBlocks = 132 * 8;
  const auto count = static_cast<std::size_t>(tensor.view->num_elements());
  if (count == 0) return cudaSuccess;
  const std::size_t blocks = std::min((count + kThreads - 1) / kThreads, kMostBlocks);
  fill_random_kernel<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(
      {data, tensor.view->dtype}, count, tensor.seed, tensor.limit, tensor.constant);
  return cudaGetLastError();
}

}  // namespace latentd::cuda

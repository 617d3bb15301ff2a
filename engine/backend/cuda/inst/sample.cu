#include "engine/backend/cuda/kernels/route.cuh"
#include "engine/backend/cuda/kernels/sample.cuh"
#include "engine/backend/cuda/launch.h"

namespace latentd::cuda {

cudaError_t launch_route(cudaStream_t stream, const RouteParams& p) {
  if (p.num_tokens == 0) return cudaSuccess;
  const std::size_t bytes =
      static_cast<std::size_t>(route_shared_floats(p.routing.num_experts)) * sizeof(float);
  route_kernel<<<static_cast<unsigned>(p.num_tokens), kWarp, bytes, stream>>>(p);
  return cudaGetLastError();
}

cudaError_t launch_sample(cudaStream_t stream, const SampleParams& p, float* processed) {
  if (p.num_rows == 0) return cudaSuccess;
  sample_kernel<<<static_cast<unsigned>(p.num_rows), kSampleThreads, 0, stream>>>(p, processed);
  return cudaGetLastError();
}

}  // namespace latentd::cuda

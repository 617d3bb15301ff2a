#include "engine/backend/cuda/kernels/sample.cuh"
#include "engine/backend/cuda/launch.h"

namespace latentd::cuda {

cudaError_t launch_sample(cudaStream_t stream, const SampleParams& p, float* processed) {
  if (p.num_rows == 0) return cudaSuccess;
  sample_kernel<<<static_cast<unsigned>(p.num_rows), kSampleThreads, 0, stream>>>(p, processed);
  return cudaGetLastError();
}

}  // namespace latentd::cuda

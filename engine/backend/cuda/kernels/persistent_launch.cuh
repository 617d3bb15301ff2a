// Host side of kernels that walk their items: a block a multiprocessor, with much shared memory.
#pragma once

#include <cuda_runtime_api.h>

namespace latentd::cuda {

// Lets `kernel` have `shared_bytes` of shared memory a block; `processors`: of the current device.
template <typename Params>
cudaError_t prepare_persistent(void (*kernel)(Params), int shared_bytes, int& processors) {
  int device = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  }
  if (error != cudaSuccess) return error;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
}

}  // namespace latentd::cuda

// Programmatic dependent launch (sm_90): a kernel's blocks may be placed, and do what depends on no
// earlier kernel, while the kernel before it ends.
//
// Whoever is launched by launch_dependent calls await_previous_launch before it touches memory that
// an earlier kernel of the stream reads or writes. It waits for the whole of the launch before it,
// which has waited for the one before itself.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

namespace latentd::cuda {

__device__ inline void await_previous_launch() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// From now on blocks of the next launch may be placed where there is room.
__device__ inline void let_next_launch_begin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// `early`: as a dependent launch; otherwise as any other.
template <typename Params>
cudaError_t launch_dependent(bool early, void (*kernel)(Params), dim3 grid, int threads,
                             std::size_t shared_bytes, cudaStream_t stream, const Params& p) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = early ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, p);
}

}  // namespace latentd::cuda

// Random tensors: a thread an element, in strides of the grid.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/backend/cuda/kernels/elements.cuh"
#include "engine/backend/random_element.h"

namespace latentd::cuda {

__global__ void fill_random_kernel(Elements out, std::size_t count, std::uint64_t seed, float limit,
                                   float constant) {
  const std::size_t step = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += step) {
    out.set(i, limit == 0.0F ? constant : random_element(seed, i, limit));
  }
}

}  // namespace latentd::cuda

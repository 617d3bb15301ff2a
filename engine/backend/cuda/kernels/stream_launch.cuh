// Host side of weight_stream and weight_tiles: shapes and launches.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "engine/backend/cuda/kernels/dependent_launch.cuh"
#include "engine/backend/cuda/kernels/persistent_launch.cuh"
#include "engine/backend/cuda/kernels/weight_stream.cuh"
#include "engine/backend/cuda/kernels/weight_tiles.cuh"

namespace latentd::cuda {

// Calls `launch` with the shape for tiles of `token_rows` rows (expert_tile, product_tile).
template <typename Launch>
cudaError_t with_stream_shape(int token_rows, const Launch& launch) {
  if (token_rows == 8) return launch(StreamShape<1, 1, 128, 4>{});
  if (token_rows == 16) return launch(StreamShape<1, 2, 128, 3>{});
  return launch(StreamShape<2, 4, 64, 3>{});
}

// One block a multiprocessor: the kernels walk their items. `early`: launch_dependent.
template <typename Params>
cudaError_t launch_persistent(bool early, void (*kernel)(Params), int threads, int shared_bytes,
                              cudaStream_t stream, const Params& p) {
  int processors = 0;
  const cudaError_t error = prepare_persistent(kernel, shared_bytes, processors);
  if (error != cudaSuccess) return error;
  return launch_dependent(early, kernel, dim3(static_cast<unsigned>(processors)), threads,
                          static_cast<std::size_t>(shared_bytes), stream, p);
}

template <typename Shape, typename Params>
cudaError_t launch_stream(bool early, void (*kernel)(Params), cudaStream_t stream,
                          const Params& p) {
  return launch_persistent(early, kernel, Shape::kThreads, Shape::kSharedBytes, stream, p);
}

template <typename Params>
cudaError_t launch_tiles(bool early, void (*kernel)(Params), cudaStream_t stream, const Params& p) {
  return launch_persistent(early, kernel, kTilesThreads, kTilesSharedBytes, stream, p);
}

}  // namespace latentd::cuda

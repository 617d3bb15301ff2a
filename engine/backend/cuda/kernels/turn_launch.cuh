// Host side of turn_tiles: shapes and launches.
#pragma once

#include <cuda_runtime_api.h>

#include "engine/backend/cuda/kernels/persistent_launch.cuh"
#include "engine/backend/cuda/kernels/turn_tiles.cuh"

namespace latentd::cuda {

// Calls `launch` with the shape for parts of `part_tokens` entries (expert_tile).
template <typename Launch>
cudaError_t with_turn_shape(int part_tokens, const Launch& launch) {
  if (part_tokens == kNarrowPart) return launch(NarrowTurns{});
  return launch(WideTurns{});
}

// Whole clusters, a block a multiprocessor: the kernels walk their items. `early`:
// launch_dependent.
template <typename Shape, typename Params>
cudaError_t launch_turns(bool early, void (*kernel)(Params), cudaStream_t stream, const Params& p) {
  int processors = 0;
  const cudaError_t error = prepare_persistent(kernel, Shape::kSharedBytes, processors);
  if (error != cudaSuccess) return error;
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim.x = kTurnCluster;
  attributes[0].val.clusterDim.y = 1;
  attributes[0].val.clusterDim.z = 1;
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(processors / kTurnCluster * kTurnCluster));
  config.blockDim = dim3(kTurnThreads);
  config.dynamicSmemBytes = Shape::kSharedBytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = early ? 2 : 1;
  return cudaLaunchKernelEx(&config, kernel, p);
}

}  // namespace latentd::cuda

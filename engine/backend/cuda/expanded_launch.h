// Launchers of expanded attention; see expanded_policy.h for what a pass is.
//
// Contract: as launch.h. bf16 throughout, but for a cache in fp8; all widths are multiples of 8 and
// all pointers aligned to 16 bytes.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "engine/backend/cuda/expanded_policy.h"
#include "engine/backend/op_params.h"

namespace latentd::cuda {

// One pass over expanded keys and values.
struct ExpandedStep {
  BatchView batch;
  CacheView cache;
  MlaGeometry geometry;
  const void* q = nullptr;            // [T, H, nope + rope]
  void* out = nullptr;                // [T, H, v]
  void* latents = nullptr;            // [pass keys, kv_lora + rope]
  void* kv = nullptr;                 // [pass keys, H, nope + v]
  bool hopper = false;                // the device is of compute capability 9.0
  std::int32_t processors = 0;        // of the device
  std::int32_t* next_task = nullptr;  // zeroed while latents are gathered
  float* state = nullptr;  // [tiles of a row, H, state_floats]; of the row cut into segments
};

// Copies the segments' cached latents into `latents`; rows between them and up to pass.num_keys
// become zeros.
cudaError_t launch_gather_latents(cudaStream_t stream, const ExpandedStep& step,
                                  const ExpandedPass& pass);

// Whether there is a kernel for the geometry on a device whose blocks have `shared_bytes`.
bool has_expanded_kernel(const MlaGeometry& geometry, std::size_t shared_bytes);
cudaError_t launch_expanded_attention(cudaStream_t stream, const ExpandedStep& step,
                                      const ExpandedPass& pass);

}  // namespace latentd::cuda

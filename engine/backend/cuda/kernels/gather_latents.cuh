// Cached latents of a pass's segments, out of their pages into consecutive rows.
#pragma once

#include <cstddef>

#include "engine/backend/cuda/expanded_launch.h"
#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/kernels/paged_rows.cuh"

namespace latentd::cuda {

inline constexpr int kGatherThreads = 256;

// A warp a row. Rows that are no segment's keys become zeros: what they are expanded to weighs
// nothing in attention and must not be a NaN.
__global__ void __launch_bounds__(kGatherThreads)
    gather_latents_kernel(const __grid_constant__ ExpandedStep step,
                          const __grid_constant__ ExpandedPass pass) {
  const int row = static_cast<int>(blockIdx.x * (kGatherThreads / kWarp) + threadIdx.x / kWarp);
  if (row == 0 && threadIdx.x == 0) *step.next_task = 0;
  if (row >= pass.num_keys) return;
  int s = pass.num_segments - 1;
  while (s > 0 && pass.segments[s].offset > row) --s;
  const ExpandedSegment& segment = pass.segments[s];
  const int key = row - segment.offset;
  const std::size_t row_bytes =
      static_cast<std::size_t>(step.geometry.kv_lora_rank + step.geometry.rope_dim) * 2;
  const int vectors = static_cast<int>(row_bytes / sizeof(uint4));
  auto* out = reinterpret_cast<uint4*>(static_cast<char*>(step.latents) +
                                       static_cast<std::size_t>(row) * row_bytes);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  if (key >= segment.num_keys) {
    for (int i = lane; i < vectors; i += kWarp) out[i] = make_uint4(0, 0, 0, 0);
    return;
  }
  const auto* in = reinterpret_cast<const uint4*>(
      cache_row(step.batch, step.cache, row_bytes, segment.slot, segment.first_key + key));
  for (int i = lane; i < vectors; i += kWarp) out[i] = in[i];
}

}  // namespace latentd::cuda

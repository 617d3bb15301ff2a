// Cached latents of a pass's segments, out of their pages into consecutive rows of bf16, in which
// values of an fp8 cache are exact.
#pragma once

#include <cstddef>

#include "engine/backend/cuda/expanded_launch.h"
#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/kernels/elements.cuh"
#include "engine/backend/cuda/kernels/fp8_rows.cuh"
#include "engine/backend/cuda/kernels/paged_rows.cuh"

namespace latentd::cuda {

inline constexpr int kGatherThreads = 256;

// A row of an fp8 cache, by a warp. Eight latents never lie in two groups.
__device__ inline void gather_fp8_row(const ExpandedStep& step, int slot, int position,
                                      uint4* out) {
  constexpr int kVector = 8;
  const MlaGeometry& g = step.geometry;
  const Fp8Row row(step.batch, step.cache, g, slot, position);
  const int latents = g.kv_lora_rank / kVector;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int i = lane; i < latents; i += kWarp) {
    float values[kVector];
#pragma unroll
    for (int k = 0; k < kVector; ++k) values[k] = row.latent(i * kVector + k);
    out[i] = pack_eight(values);
  }
  const auto* rope = reinterpret_cast<const uint4*>(row.rope);
  for (int i = lane; i < g.rope_dim / kVector; i += kWarp) out[latents + i] = rope[i];
}

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
  if (step.cache.dtype == DType::kF8E4M3) {
    gather_fp8_row(step, segment.slot, segment.first_key + key, out);
    return;
  }
  const auto* in = reinterpret_cast<const uint4*>(
      cache_row(step.batch, step.cache, row_bytes, segment.slot, segment.first_key + key));
  for (int i = lane; i < vectors; i += kWarp) out[i] = in[i];
}

}  // namespace latentd::cuda

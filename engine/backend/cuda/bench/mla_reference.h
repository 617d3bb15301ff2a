// Kernels around the measured one: inputs, the plain reference, the read stream.
//
// Contract: enqueues on `stream`; device pointers; returns what the runtime says of the launch.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "engine/backend/op_params.h"

namespace latentd::cuda::bench {

// bf16 values uniform in [-scale, scale], a function of seed and index.
cudaError_t fill_random(cudaStream_t stream, void* values, std::size_t count, float scale,
                        std::uint32_t seed);

// Pages of one layer, fp8: latents uniform in [-scale, scale] with a power of two `scale` of 1/2, 1
// or 2 a group, rope values uniform in [-1, 1].
cudaError_t fill_fp8_pages(cudaStream_t stream, void* pool, std::size_t tokens, int page_tokens,
                           std::uint32_t seed);

// A block a sampled (token, head), fp32 throughout, over a bf16 or fp8 cache: errors[i] = {sum (out
// - ref)^2, sum ref^2}. Sample i is query vector i * step; out [T, H, 512] bf16.
cudaError_t compare(cudaStream_t stream, const AbsorbedAttentionParams& p, int samples,
                    std::int64_t step, float* scratch, double2* errors);

// Values of `values` (bf16) that are not finite are added to *count.
cudaError_t count_not_finite(cudaStream_t stream, const void* values, std::size_t count,
                             unsigned long long* result);

// Reads `bytes` bytes through the copy engine and keeps nothing.
cudaError_t read_stream(cudaStream_t stream, const void* data, std::size_t bytes, int processors);

}  // namespace latentd::cuda::bench

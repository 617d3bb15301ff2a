// A token's row in an fp8 cache: codes, scales and rope values, each in its plane of the page
// (kvcache/cache_layout.h).
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include <cstddef>
#include <cstdint>

#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/kernels/paged_rows.cuh"
#include "engine/backend/latent_scale.h"
#include "engine/backend/op_params.h"
#include "kvcache/cache_layout.h"

namespace latentd::cuda {

struct Fp8Row {
  __device__ Fp8Row(const BatchView& batch, const CacheView& cache, const MlaGeometry& g, int slot,
                    int position) {
    const int num_groups = latent_groups(g.kv_lora_rank);
    const TokenPlace place = find_token(batch, cache, slot, position);
    codes = reinterpret_cast<__nv_fp8_storage_t*>(
        place.row(cache.layer_offset, static_cast<std::size_t>(g.kv_lora_rank)));
    scales = reinterpret_cast<float*>(place.row(cache.scales_offset, num_groups * sizeof(float)));
    rope = reinterpret_cast<__nv_bfloat16*>(
        place.row(cache.rope_offset, g.rope_dim * sizeof(__nv_bfloat16)));
  }

  // Latent i, exact.
  __device__ float latent(int i) const {
    const __half value(__nv_cvt_fp8_to_halfraw(codes[i], __NV_E4M3));
    return __half2float(value) * scales[i / kLatentGroup];
  }

  __nv_fp8_storage_t* codes;  // [kv_lora_rank]
  float* scales;              // [groups]
  __nv_bfloat16* rope;        // [rope]
};

// A warp rounds and writes the latents [first, first + count) of one group; value(i) is latent i.
template <typename Value>
__device__ void store_group(const Fp8Row& row, int first, int count, const Value& value) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  std::uint32_t largest = 0;
  for (int i = lane; i < count; i += kWarp) {
    largest = max(largest, __float_as_uint(value(first + i)) & 0x7fffffffU);
  }
  const std::uint32_t scale = latent_scale_bits(__reduce_max_sync(0xffffffffU, largest));
  const float inverse = __uint_as_float(inverse_scale_bits(scale));
  for (int i = lane; i < count; i += kWarp) {
    row.codes[first + i] =
        __nv_cvt_float_to_fp8(value(first + i) * inverse, __NV_SATFINITE, __NV_E4M3);
  }
  if (lane == 0) row.scales[first / kLatentGroup] = __uint_as_float(scale);
}

}  // namespace latentd::cuda

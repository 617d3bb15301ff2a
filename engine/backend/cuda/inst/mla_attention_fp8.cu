#include <cuda.h>

#include "engine/backend/cuda/kernels/mla_attention_fp8.cuh"
#include "engine/backend/cuda/launch.h"
#include "engine/backend/cuda/tensor_map.h"

namespace latentd::cuda {
namespace {

// Latents of `keys` tokens as four blocks of 128.
bool encode_codes(CUtensorMap& map, const CacheView& cache, int keys) {
  TensorMapParams p;
  p.data = static_cast<const char*>(cache.pool) + cache.layer_offset;
  p.type = CU_TENSOR_MAP_DATA_TYPE_UINT8;
  p.rank = 4;
  p.sizes = {128, cache.page_tokens, kMlaLatent / 128, cache.num_pages};
  p.strides = {kMlaLatent, 128, static_cast<std::int64_t>(cache.page_stride)};
  p.box = {128, keys, kMlaLatent / 128, 1};
  return make_tensor_map(map, p);
}

bool encode_rope(CUtensorMap& map, const CacheView& cache, int keys) {
  TensorMapParams p;
  p.data = static_cast<const char*>(cache.pool) + cache.rope_offset;
  p.type = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  p.rank = 3;
  p.sizes = {kMlaRope, cache.page_tokens, cache.num_pages};
  p.strides = {kMlaRope * 2, static_cast<std::int64_t>(cache.page_stride)};
  p.box = {kMlaRope, keys, 1};
  return make_tensor_map(map, p);
}

// Eight rows of 576 columns as nine blocks of [8, 64].
bool encode_queries(CUtensorMap& map, const AbsorbedAttentionParams& a) {
  TensorMapParams p;
  p.data = static_cast<const char*>(a.absorbed);
  p.type = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  p.rank = 3;
  p.sizes = {64, std::int64_t{a.batch.num_tokens} * a.geometry.num_heads, kMlaWidth / 64};
  p.strides = {kMlaWidth * 2, 64 * 2};
  p.box = {64, 8, kMlaWidth / 64};
  return make_tensor_map(map, p);
}

template <int kCopiedKeys, int kQueries>
cudaError_t launch(cudaStream_t stream, const MlaAttentionParams& p) {
  CUtensorMap queries;
  CUtensorMap codes;
  CUtensorMap rope;
  const CacheView& cache = p.attention.cache;
  if (!encode_queries(queries, p.attention) || !encode_codes(codes, cache, kCopiedKeys) ||
      !encode_rope(rope, cache, kCopiedKeys)) {
    return cudaErrorInvalidValue;
  }
  const auto kernel = mla_attention_fp8_kernel<kCopiedKeys, kQueries>;
  const cudaError_t error = cudaFuncSetAttribute(
      kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, MlaFp8Tile::kSharedBytes);
  if (error != cudaSuccess) return error;
  cudaLaunchAttribute early{};  // the prologue runs while the launch before ends
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(p.division.shares * p.division.group));
  config.blockDim = dim3(MlaFp8Tile::kThreads);
  config.dynamicSmemBytes = MlaFp8Tile::kSharedBytes;
  config.stream = stream;
  config.attrs = &early;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, queries, codes, rope, p);
}

template <int kCopiedKeys>
cudaError_t launch(cudaStream_t stream, const MlaAttentionParams& p) {
  switch (mla_fp8_queries(p.division, p.attention.batch)) {
    case 16:
      return launch<kCopiedKeys, 16>(stream, p);
    case 32:
      return launch<kCopiedKeys, 32>(stream, p);
    default:  // keys are widened once for all of the queries
      return launch_mla_attention(stream, p);
  }
}

}  // namespace

cudaError_t launch_mla_attention_fp8(cudaStream_t stream, const MlaAttentionParams& p) {
  if (p.attention.batch.num_tokens == 0 || p.attention.batch.num_rows == 0) return cudaSuccess;
  const int page_tokens = p.attention.cache.page_tokens;
  if (page_tokens % 64 == 0) return launch<64>(stream, p);
  return page_tokens % 32 == 0 ? launch<32>(stream, p) : launch<16>(stream, p);
}

}  // namespace latentd::cuda

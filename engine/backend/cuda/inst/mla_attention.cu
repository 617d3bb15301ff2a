#include <cuda.h>
#include <cudaTypedefs.h>

#include "engine/backend/cuda/kernels/mla_attention.cuh"
#include "engine/backend/cuda/kernels/mla_plan.cuh"
#include "engine/backend/cuda/launch.h"

namespace latentd::cuda {
namespace {

constexpr cuuint32_t kColumns = 64;  // of a block: what the 128-byte swizzle spans in bf16
constexpr cuuint32_t kGroup = 8;     // rows of one copy
constexpr cuuint64_t kRowBytes = kMlaWidth * 2;

// The driver's function: the runtime has none for tensor maps, and nothing else needs the driver's
// library.
PFN_cuTensorMapEncodeTiled_v12000 encoder() {
  static const auto function = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result{};
    const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found,
                                                               12000, cudaEnableDefault, &result);
    return error == cudaSuccess && result == cudaDriverEntryPointSuccess ? found : nullptr;
  }();
  return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function);
}

template <int kDims>
bool encode(CUtensorMap& map, const void* base, const cuuint64_t (&sizes)[kDims],
            const cuuint64_t (&strides)[kDims - 1], const cuuint32_t (&box)[kDims]) {
  if (encoder() == nullptr) return false;
  cuuint32_t steps[kDims];
  for (cuuint32_t& step : steps) step = 1;
  return encoder()(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, kDims, const_cast<void*>(base), sizes,
                   strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                   CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
                   CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

// Eight rows of 576 columns as nine blocks of [8, 64].
bool encode_queries(CUtensorMap& map, const AbsorbedAttentionParams& p) {
  const auto rows = static_cast<cuuint64_t>(p.batch.num_tokens) * p.geometry.num_heads;
  return encode<3>(map, p.absorbed, {kColumns, rows, kMlaWidth / kColumns},
                   {kRowBytes, kColumns * 2}, {kColumns, kGroup, kMlaWidth / kColumns});
}

bool encode(CUtensorMap& map, const CacheView& cache, MlaBf16Keys) {
  return encode<4>(map, static_cast<const char*>(cache.pool) + cache.layer_offset,
                   {kColumns, static_cast<cuuint64_t>(cache.page_tokens), kMlaWidth / kColumns,
                    static_cast<cuuint64_t>(cache.num_pages)},
                   {kRowBytes, kColumns * 2, cache.page_stride},
                   {kColumns, kGroup, kMlaWidth / kColumns, 1});
}

// Of an fp8 cache: rope values.
bool encode(CUtensorMap& map, const CacheView& cache, MlaFp8Keys) {
  return encode<3>(map, static_cast<const char*>(cache.pool) + cache.rope_offset,
                   {kColumns, static_cast<cuuint64_t>(cache.page_tokens),
                    static_cast<cuuint64_t>(cache.num_pages)},
                   {kColumns * 2, cache.page_stride}, {kColumns, kGroup, 1});
}

template <typename Keys, int kGroup>
cudaError_t launch(cudaStream_t stream, const MlaAttentionParams& p) {
  CUtensorMap queries;
  CUtensorMap keys;
  if (!encode_queries(queries, p.attention) || !encode(keys, p.attention.cache, Keys())) {
    return cudaErrorInvalidValue;
  }
  const auto kernel = mla_attention_kernel<Keys, kGroup>;
  const cudaError_t error = cudaFuncSetAttribute(
      kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, MlaTile::kSharedBytes);
  if (error != cudaSuccess) return error;
  cudaLaunchAttribute attributes[2] = {};
  // The prologue runs while the launch before ends.
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim = {kGroup, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(p.division.shares * kGroup));
  config.blockDim = dim3(Keys::kThreads);
  config.dynamicSmemBytes = MlaTile::kSharedBytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = kGroup > 1 ? 2 : 1;
  return cudaLaunchKernelEx(&config, kernel, queries, keys, p);
}

template <typename Keys>
cudaError_t launch(cudaStream_t stream, const MlaAttentionParams& p) {
  switch (p.division.group) {
    case 1:
      return launch<Keys, 1>(stream, p);
    case 2:
      return launch<Keys, 2>(stream, p);
    default:
      return cudaErrorInvalidConfiguration;
  }
}

}  // namespace

cudaError_t launch_mla_plan(cudaStream_t stream, const MlaPlanParams& p) {
  mla_plan_kernel<<<1, kMlaPlanThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

cudaError_t launch_mla_attention(cudaStream_t stream, const MlaAttentionParams& p) {
  if (p.attention.batch.num_tokens == 0 || p.attention.batch.num_rows == 0) return cudaSuccess;
  return p.attention.cache.dtype == DType::kF8E4M3 ? launch<MlaFp8Keys>(stream, p)
                                                   : launch<MlaBf16Keys>(stream, p);
}

}  // namespace latentd::cuda

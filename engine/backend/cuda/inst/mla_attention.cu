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
                   CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                   CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

// Eight rows of 576 columns as nine blocks of [8, 64].
bool encode_queries(CUtensorMap& map, const AbsorbedAttentionParams& p) {
  const auto rows = static_cast<cuuint64_t>(p.batch.num_tokens) * p.geometry.num_heads;
  return encode<3>(map, p.absorbed, {kColumns, rows, kMlaWidth / kColumns},
                   {kRowBytes, kColumns * 2}, {kColumns, kGroup, kMlaWidth / kColumns});
}

bool encode_keys(CUtensorMap& map, const CacheView& cache) {
  return encode<4>(map, static_cast<const char*>(cache.pool) + cache.layer_offset,
                   {kColumns, static_cast<cuuint64_t>(cache.page_tokens), kMlaWidth / kColumns,
                    static_cast<cuuint64_t>(cache.num_pages)},
                   {kRowBytes, kColumns * 2, cache.page_stride},
                   {kColumns, kGroup, kMlaWidth / kColumns, 1});
}

}  // namespace

cudaError_t launch_mla_plan(cudaStream_t stream, const MlaPlanParams& p) {
  mla_plan_kernel<<<1, kMlaPlanThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

cudaError_t launch_mla_attention(cudaStream_t stream, const MlaAttentionParams& p) {
  if (p.attention.batch.num_tokens == 0 || p.attention.batch.num_rows == 0) return cudaSuccess;
  CUtensorMap queries;
  CUtensorMap keys;
  if (!encode_queries(queries, p.attention) || !encode_keys(keys, p.attention.cache)) {
    return cudaErrorInvalidValue;
  }
  const cudaError_t error = cudaFuncSetAttribute(
      mla_attention_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, MlaTile::kSharedBytes);
  if (error != cudaSuccess) return error;
  // The prologue runs while the launch before ends.
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(p.division.shares * p.division.group));
  config.blockDim = dim3(MlaTile::kThreads);
  config.dynamicSmemBytes = MlaTile::kSharedBytes;
  config.stream = stream;
  config.attrs = &early;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, mla_attention_kernel, queries, keys, p);
}

}  // namespace latentd::cuda

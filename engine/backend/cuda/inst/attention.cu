#include "engine/backend/cuda/attention_policy.h"
#include "engine/backend/cuda/kernels/absorbed_attention.cuh"
#include "engine/backend/cuda/kernels/grouped_attention.cuh"
#include "engine/backend/cuda/launch.h"

namespace latentd::cuda {
namespace {

constexpr int kCopyThreads = 128;

template <int kHeads>
cudaError_t launch(cudaStream_t stream, const AbsorbedAttentionParams& p, DType activation) {
  const MlaGeometry& g = p.geometry;
  const std::size_t bytes = attention_shared_bytes(kHeads, g.kv_lora_rank, g.rope_dim);
  const cudaError_t error =
      cudaFuncSetAttribute(absorbed_attention_kernel<kHeads>,
                           cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (error != cudaSuccess) return error;
  const dim3 grid(static_cast<unsigned>(p.batch.num_tokens),
                  static_cast<unsigned>((g.num_heads + kHeads - 1) / kHeads));
  absorbed_attention_kernel<kHeads><<<grid, kAttentionThreads, bytes, stream>>>(p, activation);
  return cudaGetLastError();
}

template <int kHeads>
cudaError_t launch_grouped(cudaStream_t stream, const GroupedAttentionParams& p, DType activation) {
  const GqaGeometry& g = p.geometry;
  const std::size_t bytes = grouped_attention_shared_bytes(kHeads, g.head_dim);
  const cudaError_t error =
      cudaFuncSetAttribute(grouped_attention_kernel<kHeads>,
                           cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (error != cudaSuccess) return error;
  const dim3 grid(static_cast<unsigned>(p.batch.num_tokens), static_cast<unsigned>(g.num_kv_heads),
                  static_cast<unsigned>((g.group_size() + kHeads - 1) / kHeads));
  grouped_attention_kernel<kHeads><<<grid, kAttentionThreads, bytes, stream>>>(p, activation);
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_grouped_attention(cudaStream_t stream, const GroupedAttentionParams& p,
                                     DType activation, std::size_t shared_bytes) {
  if (p.batch.num_tokens == 0) return cudaSuccess;
  const GqaGeometry& g = p.geometry;
  switch (grouped_attention_heads_of_block(g.group_size(), g.head_dim, shared_bytes)) {
    case 8:
      return launch_grouped<8>(stream, p, activation);
    case 4:
      return launch_grouped<4>(stream, p, activation);
    case 2:
      return launch_grouped<2>(stream, p, activation);
    case 1:
      return launch_grouped<1>(stream, p, activation);
    default:
      return cudaErrorInvalidConfiguration;
  }
}

cudaError_t launch_copy_rope(cudaStream_t stream, const AbsorbQueryParams& p, DType activation) {
  if (p.num_tokens == 0) return cudaSuccess;
  copy_rope_kernel<<<static_cast<unsigned>(p.num_tokens), kCopyThreads, 0, stream>>>(p, activation);
  return cudaGetLastError();
}

cudaError_t launch_absorbed_attention(cudaStream_t stream, const AbsorbedAttentionParams& p,
                                      DType activation, std::size_t shared_bytes) {
  if (p.batch.num_tokens == 0 || p.batch.num_rows == 0) return cudaSuccess;
  const MlaGeometry& g = p.geometry;
  switch (attention_heads_of_block(g.num_heads, g.kv_lora_rank, g.rope_dim, shared_bytes)) {
    case 8:
      return launch<8>(stream, p, activation);
    case 4:
      return launch<4>(stream, p, activation);
    case 2:
      return launch<2>(stream, p, activation);
    case 1:
      return launch<1>(stream, p, activation);
    default:
      return cudaErrorInvalidConfiguration;
  }
}

}  // namespace latentd::cuda

#include <algorithm>
#include <cstdint>

#include "engine/backend/cuda/kernels/absorb_append.cuh"
#include "engine/backend/cuda/kernels/append_keys_values.cuh"
#include "engine/backend/cuda/kernels/rope_append.cuh"
#include "engine/backend/cuda/kernels/rows.cuh"
#include "engine/backend/cuda/launch.h"

namespace latentd::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::size_t kMostBlocks = 4096;

// Whether rms_norm_bf16_kernel computes it: whole vectors, one a thread.
bool norms_in_registers(const RmsNormParams& p) {
  const auto aligned = [](const void* data) {
    return reinterpret_cast<std::uintptr_t>(data) % (kNormVector * sizeof(__nv_bfloat16)) == 0;
  };
  return p.weight.dtype == DType::kBF16 && p.dim % kNormVector == 0 &&
         p.dim <= kNormVector * kMostNormThreads && p.x_stride % kNormVector == 0 &&
         p.out_stride % kNormVector == 0 && aligned(p.x) && aligned(p.out) &&
         aligned(p.weight.data);
}

unsigned blocks_for(std::size_t count) {
  return static_cast<unsigned>(
      std::clamp<std::size_t>((count + kThreads - 1) / kThreads, 1, kMostBlocks));
}

}  // namespace

cudaError_t launch_prepare(cudaStream_t stream, const PrepareParams& p) {
  const int count = std::max(p.num_updates, p.num_tokens);
  if (count == 0) return cudaSuccess;
  prepare_kernel<<<blocks_for(static_cast<std::size_t>(count)), kThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

cudaError_t launch_embed(cudaStream_t stream, const EmbedParams& p, DType activation) {
  if (p.num_tokens == 0) return cudaSuccess;
  embed_kernel<<<static_cast<unsigned>(p.num_tokens), kThreads, 0, stream>>>(
      p.tokens, {p.table.data, p.table.dtype}, p.table.dim(0), static_cast<int>(p.table.dim(1)),
      {p.out, activation});
  return cudaGetLastError();
}

cudaError_t launch_gather(cudaStream_t stream, const GatherParams& p, DType activation) {
  if (p.num_rows == 0) return cudaSuccess;
  gather_kernel<<<static_cast<unsigned>(p.num_rows), kThreads, 0, stream>>>(
      {p.hidden, activation}, p.token_indices, p.hidden_size, {p.out, activation});
  return cudaGetLastError();
}

cudaError_t launch_copy_row_tokens(cudaStream_t stream, const BatchView& batch, const void* x,
                                   void* out, int width, DType activation) {
  if (batch.num_tokens == 0 || batch.num_rows == 0) return cudaSuccess;
  copy_row_tokens_kernel<<<static_cast<unsigned>(batch.num_tokens), kThreads, 0, stream>>>(
      batch, {x, activation}, {out, activation}, width);
  return cudaGetLastError();
}

cudaError_t launch_rms_norm(cudaStream_t stream, const RmsNormParams& p, DType activation) {
  if (p.num_rows == 0) return cudaSuccess;
  const auto rows = static_cast<unsigned>(p.num_rows);
  if (activation == DType::kBF16 && norms_in_registers(p)) {
    const int threads = (p.dim / kNormVector + kWarp - 1) / kWarp * kWarp;
    rms_norm_bf16_kernel<<<rows, threads, 0, stream>>>(p);
  } else {
    rms_norm_kernel<<<rows, kThreads, 0, stream>>>(p, activation);
  }
  return cudaGetLastError();
}

cudaError_t launch_silu_multiply(cudaStream_t stream, void* gate, const void* up, std::size_t count,
                                 DType activation) {
  if (count == 0) return cudaSuccess;
  silu_multiply_kernel<<<blocks_for(count), kThreads, 0, stream>>>({gate, activation},
                                                                   {up, activation}, count);
  return cudaGetLastError();
}

cudaError_t launch_rope_append(cudaStream_t stream, const RopeAppendParams& p, DType activation) {
  if (p.batch.num_tokens == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(p.batch.num_tokens), 2);
  rope_append_kernel<<<grid, kThreads, 0, stream>>>(p, activation);
  return cudaGetLastError();
}

cudaError_t launch_absorb_append(cudaStream_t stream, const AbsorbAppend& p) {
  const MlaGeometry& g = p.rope.geometry;
  const int blocks = g.num_heads * (g.kv_lora_rank / kAbsorbColumns) + 2 * p.rope.batch.num_tokens;
  return launch_dependent(/*early=*/true, absorb_append_kernel, dim3(static_cast<unsigned>(blocks)),
                          kAbsorbThreads, static_cast<std::size_t>(g.nope_dim) * kAbsorbRowBytes,
                          stream, p);
}

cudaError_t launch_append_keys_values(cudaStream_t stream, const AppendKeysValuesParams& p,
                                      DType activation) {
  if (p.batch.num_tokens == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(p.batch.num_tokens), 2);
  append_keys_values_kernel<<<grid, kThreads, 0, stream>>>(p, activation);
  return cudaGetLastError();
}

}  // namespace latentd::cuda

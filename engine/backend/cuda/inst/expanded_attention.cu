#include <algorithm>
#include <cmath>

#include "engine/backend/cuda/expanded_launch.h"
#include "engine/backend/cuda/kernels/expanded_attention.cuh"
#include "engine/backend/cuda/kernels/expanded_attention_hopper.cuh"
#include "engine/backend/cuda/kernels/gather_latents.cuh"
#include "engine/backend/cuda/tensor_map.h"

namespace latentd::cuda {
namespace {

ExpandedArgs make_args(const ExpandedStep& step, const ExpandedPass& pass) {
  ExpandedArgs args;
  args.pass = pass;
  args.q = static_cast<const __nv_bfloat16*>(step.q);
  args.kv = static_cast<const __nv_bfloat16*>(step.kv);
  args.latents = static_cast<const __nv_bfloat16*>(step.latents);
  args.state = step.state;
  args.out = static_cast<__nv_bfloat16*>(step.out);
  args.next_task = step.next_task;
  args.num_heads = step.geometry.num_heads;
  args.kv_lora = step.geometry.kv_lora_rank;
  args.scale = step.geometry.softmax_scale * static_cast<float>(M_LOG2E);
  return args;
}

template <int kNope, int kRope, int kV>
cudaError_t launch(cudaStream_t stream, const ExpandedArgs& args) {
  constexpr std::size_t kBytes = ExpandedShape<kNope, kRope, kV>::kSharedBytes;
  const auto kernel = expanded_attention_kernel<kNope, kRope, kV>;
  const cudaError_t error = cudaFuncSetAttribute(
      kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kBytes));
  if (error != cudaSuccess) return error;
  kernel<<<static_cast<unsigned>(args.pass.num_tiles * args.num_heads), kStateThreads, kBytes,
           stream>>>(args);
  return cudaGetLastError();
}

// A geometry that has a kernel.
struct Compiled {
  int nope;
  int rope;
  int v;
  std::size_t shared_bytes;
  cudaError_t (*launch)(cudaStream_t stream, const ExpandedArgs& args);
};

template <int kNope, int kRope, int kV>
constexpr Compiled compiled() {
  return {kNope, kRope, kV, ExpandedShape<kNope, kRope, kV>::kSharedBytes,
          launch<kNope, kRope, kV>};
}

constexpr Compiled kCompiled[] = {
    compiled<128, 64, 128>(),  // DeepSeek-V2 and V3, R1, Kimi K2
    compiled<192, 64, 256>(),  // GLM-4.7-Flash
    compiled<64, 32, 64>(),    // MiniCPM3
    compiled<32, 32, 32>(),    // latent-mini
};

const Compiled* find(const MlaGeometry& g) {
  for (const Compiled& one : kCompiled) {
    if (one.nope == g.nope_dim && one.rope == g.rope_dim && one.v == g.v_dim) return &one;
  }
  return nullptr;
}

bool is_hopper_geometry(const MlaGeometry& g) {
  return g.nope_dim == hopper::kNope && g.rope_dim == hopper::kRope && g.v_dim == hopper::kValue;
}

cudaError_t launch_hopper(cudaStream_t stream, const ExpandedStep& step, const ExpandedPass& pass) {
  const MlaGeometry& g = step.geometry;
  hopper::Maps maps;
  const auto map = [](CUtensorMap& to, const void* data, std::int64_t columns, std::int64_t rows) {
    return make_tensor_map(to, data, columns, rows, hopper::kBoxColumns, 128);
  };
  if (!map(maps.q, step.q, std::int64_t{g.num_heads} * g.qk_dim(), step.batch.num_tokens) ||
      !map(maps.kv, step.kv, std::int64_t{g.num_heads} * (g.nope_dim + g.v_dim), pass.num_keys) ||
      !map(maps.latents, step.latents, g.latent_dim(), pass.num_keys)) {
    return cudaErrorInvalidValue;
  }
  constexpr auto kBytes = static_cast<int>(hopper::kSharedBytes);
  const cudaError_t error = cudaFuncSetAttribute(
      expanded_attention_hopper_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (error != cudaSuccess) return error;
  const int blocks = std::min(pass.num_tiles * g.num_heads, step.processors);
  expanded_attention_hopper_kernel<<<static_cast<unsigned>(blocks), hopper::kThreads, kBytes,
                                     stream>>>(make_args(step, pass), maps);
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_gather_latents(cudaStream_t stream, const ExpandedStep& step,
                                  const ExpandedPass& pass) {
  constexpr int kRows = kGatherThreads / kWarp;
  const auto blocks = static_cast<unsigned>((pass.num_keys + kRows - 1) / kRows);
  gather_latents_kernel<<<blocks, kGatherThreads, 0, stream>>>(step, pass);
  return cudaGetLastError();
}

bool has_expanded_kernel(const MlaGeometry& geometry, std::size_t shared_bytes) {
  const Compiled* one = find(geometry);
  return one != nullptr && one->shared_bytes <= shared_bytes;
}

cudaError_t launch_expanded_attention(cudaStream_t stream, const ExpandedStep& step,
                                      const ExpandedPass& pass) {
  if (step.hopper && is_hopper_geometry(step.geometry)) return launch_hopper(stream, step, pass);
  const Compiled* one = find(step.geometry);
  return one == nullptr ? cudaErrorInvalidConfiguration
                        : one->launch(stream, make_args(step, pass));
}

}  // namespace latentd::cuda

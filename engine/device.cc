#include "engine/device.h"

#include <spdlog/fmt/fmt.h>

#include "engine/backend/cpu/cpu_backend.h"
#ifdef LATENTD_HAS_CUDA
#include "engine/backend/cuda/cuda_backend.h"
#endif

namespace latentd {
namespace {

// Weights up to this size are worth a copy in huge pages: decoding is then 1.27 times as fast.
constexpr std::size_t kMostCopiedWeights = std::size_t{1} << 30;
// With more, products bind the attention of a shared prefix, not its bytes.
constexpr int kMostHeadsThatShare = 32;

#ifdef LATENTD_HAS_CUDA
bool has_cuda_device() { return cuda_device_count() > 0; }

Result<std::unique_ptr<Backend>> make_cuda(const EngineOptions& options,
                                           const ModelConfig& config) {
  CudaBackendOptions cuda;
  cuda.activation = options.dtype.value_or(config.dtype);
  cuda.batch_invariant = options.batch_invariant.value_or(cuda.batch_invariant);
  auto backend = make_cuda_backend(cuda);
  if (backend.ok()) return backend;
  const Status& status = backend.status();
  return Status(status.code(), "device cuda: " + status.message()).with_field(status.field());
}
#else
bool has_cuda_device() { return false; }

Result<std::unique_ptr<Backend>> make_cuda(const EngineOptions& /*options*/,
                                           const ModelConfig& /*config*/) {
  return Status(StatusCode::kUnimplemented,
                "device cuda: this build has no CUDA backend; build it with -DLATENTD_CUDA=ON");
}
#endif

}  // namespace

EngineOptions resolve_device(const EngineOptions& options, const ModelConfig& config) {
  EngineOptions resolved = options;
  if (resolved.device == Device::kAuto) {
    resolved.device = has_cuda_device() ? Device::kCuda : Device::kCpu;
  }
  // On the CPU it costs nothing that short prompts would notice; on CUDA it does without cuBLASLt.
  resolved.batch_invariant = options.batch_invariant.value_or(resolved.device == Device::kCpu);
  resolved.shared_prefixes = options.shared_prefixes && options.prefix_cache &&
                             resolved.device == Device::kCuda && !*resolved.batch_invariant &&
                             config.attention == AttentionKind::kLatent &&
                             config.num_heads <= kMostHeadsThatShare;
  return resolved;
}

Result<std::unique_ptr<Backend>> make_backend(const EngineOptions& options,
                                              const ModelConfig& config, std::size_t weight_bytes) {
  if (options.device == Device::kCuda) return make_cuda(options, config);
  return make_cpu_backend(
      {.threads = options.cpu_threads, .copy_weights = weight_bytes <= kMostCopiedWeights});
}

}  // namespace latentd

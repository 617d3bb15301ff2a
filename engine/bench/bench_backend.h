// BenchBackend: the backend that latentd-bench measures and, on CUDA, a clock on the GPU itself.
//
// Contract: single-threaded.
#pragma once

#include <memory>
#include <optional>

#include "base/result.h"
#include "engine/backend/backend.h"
#include "engine/model/model_config.h"

namespace latentd {

struct BenchBackendOptions {
  bool cuda = false;
  int threads = 0;           // CPU
  bool copy_weights = true;  // CPU
  bool batch_invariant = false;
};

// Medians of a step, microseconds, by events on the GPU.
struct GpuStep {
  double idle = 0.0;  // between the sampler and the next step's first kernel, and inside the step
  double forward = 0.0;
  double sample = 0.0;
};

class BenchBackend {
 public:
  // Errors as make_cpu_backend's and make_cuda_backend's; kUnimplemented without CUDA in the build.
  static Result<std::unique_ptr<BenchBackend>> make(const BenchBackendOptions& options,
                                                    const ModelConfig& config);
  virtual ~BenchBackend() = default;

  virtual Backend& backend() = 0;
  // Of the steps since the last call; none on the CPU. REQUIRES: all of them were waited for.
  virtual std::optional<GpuStep> read_steps() = 0;
  // Between these a profiler that was told to wait (ncu --profile-from-start off) looks on; nothing
  // on the CPU.
  virtual void begin_profile() {}
  virtual void end_profile() {}
};

}  // namespace latentd

#include "engine/bench/bench_backend.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "engine/backend/cpu/cpu_backend.h"
#ifdef LATENTD_HAS_CUDA
#include "engine/backend/cuda/cuda_backend.h"
#include "engine/backend/cuda/profiler.h"
#include "engine/backend/cuda/run_timer.h"
#endif

namespace latentd {
namespace {

class CpuBench final : public BenchBackend {
 public:
  explicit CpuBench(std::unique_ptr<Backend> backend) : backend_(std::move(backend)) {}
  Backend& backend() override { return *backend_; }
  std::optional<GpuStep> read_steps() override { return std::nullopt; }

 private:
  std::unique_ptr<Backend> backend_;
};

#ifdef LATENTD_HAS_CUDA

// The runner enters the backend three times a step: prepare, forward, sample.
constexpr std::size_t kRunsOfStep = 3;
constexpr std::size_t kMostRuns = kRunsOfStep * 512;

double median(std::vector<double>& values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0.0 : values[values.size() / 2];
}

class CudaBench final : public BenchBackend {
 public:
  static Result<std::unique_ptr<BenchBackend>> make(CudaBackendOptions options) {
    auto bench = std::make_unique<CudaBench>();
    options.run_timer = &bench->timer_;
    LATENTD_ASSIGN_OR_RETURN(bench->backend_, make_cuda_backend(options));
    return std::unique_ptr<BenchBackend>(std::move(bench));
  }

  Backend& backend() override { return *backend_; }
  void begin_profile() override { cuda::begin_profile(); }
  void end_profile() override { cuda::end_profile(); }
  std::optional<GpuStep> read_steps() override {
    const std::vector<cuda::RunTime> runs = timer_.read();
    std::vector<double> idle;
    std::vector<double> forward;
    std::vector<double> sample;
    // Before the first step the GPU had nothing to do.
    for (std::size_t i = kRunsOfStep; i + kRunsOfStep <= runs.size(); i += kRunsOfStep) {
      idle.push_back(runs[i].idle + runs[i + 1].idle + runs[i + 2].idle);
      forward.push_back(runs[i + 1].busy);
      sample.push_back(runs[i + 2].busy);
    }
    return GpuStep{median(idle), median(forward), median(sample)};
  }

 private:
  cuda::RunTimer timer_{kMostRuns};
  std::unique_ptr<Backend> backend_;
};

#endif

}  // namespace

Result<std::unique_ptr<BenchBackend>> BenchBackend::make(
    const BenchBackendOptions& options, [[maybe_unused]] const ModelConfig& config) {
  if (!options.cuda) {
    LATENTD_ASSIGN_OR_RETURN(auto backend,
                             make_cpu_backend({options.threads, options.copy_weights}));
    return std::unique_ptr<BenchBackend>(std::make_unique<CpuBench>(std::move(backend)));
  }
#ifdef LATENTD_HAS_CUDA
  CudaBackendOptions cuda;
  cuda.activation = config.dtype;
  cuda.batch_invariant = options.batch_invariant;
  return CudaBench::make(cuda);
#else
  return Status(StatusCode::kUnimplemented, "this build has no CUDA backend");
#endif
}

}  // namespace latentd

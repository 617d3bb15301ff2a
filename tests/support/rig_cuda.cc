#include "engine/backend/cuda/cuda_backend.h"
#include "tests/support/engine_rig.h"
#include "tests/support/needs_cuda.h"

namespace latentd {
namespace {

[[maybe_unused]] const bool kNeedsCuda = test::skip_without_cuda();

}  // namespace

std::unique_ptr<Backend> make_rig_backend(int /*cpu_threads*/, bool batch_invariant) {
  CudaBackendOptions options;
  options.activation = DType::kF32;
  options.batch_invariant = batch_invariant;
  return make_cuda_backend(options).value();
}

}  // namespace latentd

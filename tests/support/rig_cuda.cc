#include "engine/backend/cuda/cuda_backend.h"
#include "tests/support/engine_rig.h"
#include "tests/support/needs_cuda.h"

namespace latentd {
namespace {

[[maybe_unused]] const bool kNeedsCuda = test::skip_without_cuda();

}  // namespace

Device rig_device() { return Device::kCuda; }

std::unique_ptr<Backend> make_rig_backend(const RigOptions& options) {
  CudaBackendOptions cuda;
  cuda.activation = options.activation;
  cuda.batch_invariant = options.batch_invariant;
  return make_cuda_backend(cuda).value();
}

}  // namespace latentd

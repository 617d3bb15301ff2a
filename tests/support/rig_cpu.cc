#include "engine/backend/cpu/cpu_backend.h"
#include "tests/support/engine_rig.h"

namespace latentd {

Device rig_device() { return Device::kCpu; }

std::unique_ptr<Backend> make_rig_backend(const RigOptions& options) {
  return make_cpu_backend({.threads = options.cpu_threads}).value();
}

}  // namespace latentd

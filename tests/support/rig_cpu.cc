#include "engine/backend/cpu/cpu_backend.h"
#include "tests/support/engine_rig.h"

namespace latentd {

std::unique_ptr<Backend> make_rig_backend(int cpu_threads, bool /*batch_invariant*/) {
  return make_cpu_backend({.threads = cpu_threads}).value();
}

}  // namespace latentd

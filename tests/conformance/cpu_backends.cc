// The backends of test_conformance.
#include "engine/backend/cpu/cpu_backend.h"
#include "tests/conformance/device.h"

namespace latentd::conformance {

const std::vector<BackendUnderTest>& backends() {
  static const auto* list = new std::vector<BackendUnderTest>{
      {"Cpu",
       [](int threads) { return make_cpu_backend({.threads = threads}); },
       /*batch_invariant=*/true,
       /*large=*/false,
       {DType::kF32, DType::kBF16, DType::kF8E4M3}},
  };
  return *list;
}

}  // namespace latentd::conformance

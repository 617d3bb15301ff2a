// The backends of test_conformance_gpu. Without a device every test is skipped.
#include "engine/backend/cuda/cuda_backend.h"
#include "tests/conformance/device.h"
#include "tests/support/needs_cuda.h"

namespace latentd::conformance {
namespace {

BackendUnderTest cuda(std::string name, DType activation, bool batch_invariant) {
  return {std::move(name),
          [=](int /*threads*/) {
            return make_cuda_backend(
                {.device = 0, .activation = activation, .batch_invariant = batch_invariant});
          },
          batch_invariant,
          /*large=*/!batch_invariant,
          {DType::kF32, DType::kBF16, DType::kF8E4M3}};
}

[[maybe_unused]] const bool kNeedsCuda = test::skip_without_cuda();

}  // namespace

const std::vector<BackendUnderTest>& backends() {
  static const auto* list = new std::vector<BackendUnderTest>{
      cuda("CudaFp32", DType::kF32, false),
      cuda("CudaBf16", DType::kBF16, false),
      cuda("CudaFp32Invariant", DType::kF32, true),
      cuda("CudaBf16Invariant", DType::kBF16, true),
  };
  return *list;
}

}  // namespace latentd::conformance

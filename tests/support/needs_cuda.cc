#include "tests/support/needs_cuda.h"

#include <gtest/gtest.h>

#include <cstdio>

#include "engine/backend/cuda/cuda_backend.h"

namespace latentd::test {
namespace {

class NeedsCuda final : public ::testing::Environment {
 public:
  void SetUp() override {
    if (cuda_device_count() > 0) return;
    std::puts("[  SKIPPED ] no CUDA device answers");  // what ctest looks for
    GTEST_SKIP();
  }
};

}  // namespace

bool skip_without_cuda() {
  ::testing::AddGlobalTestEnvironment(new NeedsCuda);
  return true;
}

}  // namespace latentd::test

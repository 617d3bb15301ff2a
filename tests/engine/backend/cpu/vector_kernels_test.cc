#include "engine/backend/cpu/vector_kernels.h"

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <cmath>
#include <numeric>
#include <vector>

namespace latentd::cpu {
namespace {

// Runs `body` with each of the instruction sets that this processor has.
template <typename Body>
void for_each_target(const Body& body) {
  const std::int64_t all = hwy::SupportedTargets();
  for (std::int64_t left = all; left != 0; left &= left - 1) {
    const std::int64_t target = left & -left;
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    SCOPED_TRACE(hwy::TargetName(target));
    body();
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

TEST(LoadScaledE4M3, WidensEveryCodeExactlyOnEveryProcessor) {
  std::vector<std::uint8_t> codes(256);
  std::iota(codes.begin(), codes.end(), std::uint8_t{0});
  for_each_target([&] {
    for (const float scale : {1.0F, 0x1p-20F, 0x1p-117F, 0x1p118F, std::nanf("")}) {
      std::vector<BFloat16> out(codes.size());
      load_scaled_e4m3(codes.data(), &scale, codes.size(), out.data(), codes.size());
      for (std::size_t i = 0; i < codes.size(); ++i) {
        const float expected = to_float(Float8E4M3{codes[i]}) * scale;
        const float actual = to_float(out[i]);
        if (std::isnan(expected)) {
          EXPECT_TRUE(std::isnan(actual)) << i;
        } else {
          EXPECT_EQ(actual, expected) << i;
          EXPECT_EQ(std::signbit(actual), std::signbit(expected)) << i;
        }
      }
    }
  });
}

TEST(LoadScaledE4M3, ScalesEachGroupByItsOwnAndTouchesNothingBehind) {
  constexpr std::size_t kGroup = 40;
  const std::vector<float> scales = {1.0F, 2.0F, 0.25F};
  constexpr std::uint8_t kOne = 0x38;
  for_each_target([&] {
    for (std::size_t n = 1; n <= 3 * kGroup; ++n) {
      const std::vector<std::uint8_t> codes(n, kOne);  // nothing behind may be read
      std::vector<BFloat16> out(n + 1, to_bfloat16(-1.0F));
      load_scaled_e4m3(codes.data(), scales.data(), kGroup, out.data(), n);
      for (std::size_t i = 0; i < n; ++i)
        ASSERT_EQ(to_float(out[i]), scales[i / kGroup]) << i << " of " << n;
      EXPECT_EQ(to_float(out[n]), -1.0F);
    }
  });
}

}  // namespace
}  // namespace latentd::cpu

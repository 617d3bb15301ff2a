#include "engine/load_progress.h"

#include <gtest/gtest.h>

#include <chrono>

#include "engine/load_clock.h"

namespace latentd {
namespace {

TEST(LoadProgress, SaysHowMuchHowFarAndHowFast) {
  EXPECT_EQ(progress_text(1'200'000'000, 2'400'000'000, 0.5), "1.20 of 2.40 GB, 2.4 GB/s");
  EXPECT_EQ(progress_bar(0, 100, 0.0),
            "weights [------------------------]   0 %  0.00 of 0.00 GB, 0.0 GB/s");
  EXPECT_EQ(progress_bar(1'200'000'000, 2'400'000'000, 0.5),
            "weights [############------------]  50 %  1.20 of 2.40 GB, 2.4 GB/s");
  EXPECT_EQ(progress_bar(5, 5, 1.0).substr(0, 40), "weights [########################] 100 %");
  EXPECT_EQ(progress_bar(0, 0, 1.0).substr(0, 40), "weights [########################] 100 %");
}

TEST(LoadClock, GivesEveryMomentToOnePart) {
  const TimePoint begin{};
  LoadClock clock(begin);
  clock.ended("device", begin + std::chrono::milliseconds(250));
  clock.ended("weights", begin + std::chrono::milliseconds(900));
  ASSERT_EQ(clock.parts().size(), 2U);
  EXPECT_EQ(clock.parts()[0].name, "device");
  EXPECT_EQ(clock.parts()[0].time, std::chrono::milliseconds(250));
  EXPECT_EQ(clock.parts()[1].time, std::chrono::milliseconds(650));
}

}  // namespace
}  // namespace latentd

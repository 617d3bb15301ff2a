#include "server/trace_context.h"

#include <gtest/gtest.h>

namespace latentd {
namespace {

const std::string kTrace = "4bf92f3577b34da6a3ce929d0e0e4736";
const std::string kParent = "00f067aa0ba902b7";
const std::string kGood = "00-" + kTrace + "-" + kParent + "-01";

TEST(TraceContext, TakesWhatTheStandardShows) {
  const auto trace = parse_traceparent(kGood);
  ASSERT_TRUE(trace.has_value());
  EXPECT_EQ(trace->trace_id, kTrace);
  EXPECT_EQ(trace->parent_id, kParent);
  EXPECT_EQ(trace->flags, "01");
  EXPECT_EQ(trace->span_id.size(), 16U);
  EXPECT_NE(trace->span_id, kParent);
  EXPECT_EQ(trace->response(), "00-" + kTrace + "-" + trace->span_id + "-01");
}

TEST(TraceContext, TakesLaterVersionsAsFarAsTheyAreKnown) {
  EXPECT_TRUE(parse_traceparent("01-" + kTrace + "-" + kParent + "-01"));
  EXPECT_TRUE(parse_traceparent("cc-" + kTrace + "-" + kParent + "-01-what-else"));
  EXPECT_FALSE(parse_traceparent("cc-" + kTrace + "-" + kParent + "-01x"));
  EXPECT_FALSE(parse_traceparent("ff-" + kTrace + "-" + kParent + "-01"));
}

TEST(TraceContext, IgnoresWhatIsNoTrace) {
  const std::string zeros(32, '0');
  for (const std::string& value : {
           std::string(),
           kGood.substr(0, 54),
           kGood + "-x",
           "00-" + zeros + "-" + kParent + "-01",
           "00-" + kTrace + "-" + zeros.substr(16) + "-01",
           "00_" + kTrace + "-" + kParent + "-01",
           "00-4BF92F3577B34DA6A3CE929D0E0E4736-" + kParent + "-01",
           "00-" + kTrace + "-" + kParent + "-0g",
           "0x-" + kTrace + "-" + kParent + "-01",
       }) {
    EXPECT_FALSE(parse_traceparent(value)) << value;
  }
}

TEST(TraceContext, IsSampledByTheLowestBit) {
  for (const char* flags : {"01", "03", "ff", "0b"}) {
    EXPECT_TRUE(parse_traceparent(kGood.substr(0, 53) + flags)->sampled()) << flags;
  }
  for (const char* flags : {"00", "02", "f0", "0c"}) {
    EXPECT_FALSE(parse_traceparent(kGood.substr(0, 53) + flags)->sampled()) << flags;
  }
}

TEST(TraceContext, BeginsWhereNobodyHasBegunOne) {
  const TraceContext first = start_trace(1.0);
  const TraceContext second = start_trace(0.0);
  EXPECT_TRUE(first.sampled());
  EXPECT_FALSE(second.sampled());
  EXPECT_TRUE(first.parent_id.empty());
  EXPECT_NE(first.trace_id, second.trace_id);
  // What it answers is what it would take.
  EXPECT_EQ(parse_traceparent(first.response())->trace_id, first.trace_id);
}

TEST(TraceContext, SamplesTheShareThatIsAskedFor) {
  int sampled = 0;
  for (int i = 0; i < 20'000; ++i) sampled += start_trace(0.25).sampled() ? 1 : 0;
  EXPECT_NEAR(sampled, 5'000, 500);  // eight standard deviations
}

}  // namespace
}  // namespace latentd

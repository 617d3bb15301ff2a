#include "loadtest/measures.h"

#include <gtest/gtest.h>

namespace latentd::loadtest {
namespace {

using std::chrono::milliseconds;

class RecorderTest : public testing::Test {
 protected:
  RecorderOptions options() const {
    RecorderOptions options;
    options.start = start_;
    options.warmup_s = 1.0;
    options.end_s = 10.0;
    options.slo = {100.0, 20.0, 0.0};
    options.num_tenants = 2;
    options.keep_outcomes = true;
    return options;
  }
  TimePoint at(int ms) const { return start_ + milliseconds(ms); }

  // A request that is answered with tokens at the given times.
  void answer(Recorder& recorder, int intended, int sent, const std::vector<int>& tokens,
              const std::string& error = "", int expected = 0, int said = -1) {
    Progress progress;
    progress.completion_tokens = said;
    progress.listed_ids = true;
    recorder.on_sent(progress, at(intended), at(sent));
    for (const int token : tokens) recorder.on_tokens(progress, 1, at(token));
    recorder.on_end(progress, error, expected, expected > 0,
                    at(tokens.empty() ? sent : tokens.back()));
  }

  const TimePoint start_ = TimePoint(std::chrono::seconds(1000));
  Live live_;
};

TEST_F(RecorderTest, CountsFromWhenTheRequestWasMeantToBeSent) {
  Recorder recorder(options(), live_);
  answer(recorder, 2000, 2500, {2600, 2610, 2640});  // the client was half a second late
  const Measures& measures = recorder.measures();
  EXPECT_NEAR(measures.ttft.quantile(0.5), 600e3, 600e3 * Histogram::kRelativeError);
  EXPECT_NEAR(measures.lag.quantile(0.5), 500e3, 500e3 * Histogram::kRelativeError);
  EXPECT_EQ(measures.e2e.max(), 640'000U);
  EXPECT_EQ(measures.itl.count(), 2U);
  EXPECT_EQ(measures.itl.min(), 10'000U);
  EXPECT_EQ(measures.itl.max(), 30'000U);
  EXPECT_EQ(measures.tpot.max(), 20'000U);
}

TEST_F(RecorderTest, KnowsHowItCountedTheTokensOfAnAnswer) {
  Recorder recorder(options(), live_);
  const auto answer_with = [&](int events, int said, bool at_length) {
    Progress progress;
    progress.completion_tokens = said;
    progress.at_length = at_length;
    recorder.on_sent(progress, at(2000), at(2000));
    for (int i = 0; i < events; ++i) recorder.on_tokens(progress, 1, at(2100 + i));
    recorder.on_end(progress, "", 50, false, at(2500));
  };
  answer_with(5, 40, true);   // the server said
  answer_with(5, -1, true);   // max_tokens were made
  answer_with(5, -1, false);  // nobody knows better
  EXPECT_EQ(recorder.measures().counted, (std::array<std::uint64_t, 3>{1, 1, 1}));
  EXPECT_EQ(recorder.measures().total().output_tokens, 40U + 50U + 5U);
  EXPECT_TRUE(recorder.measures().errors.empty());
}

TEST_F(RecorderTest, CountsThePairsThatTheServersAttentionReads) {
  Recorder recorder(options(), live_);
  Progress progress;
  progress.prompt_tokens = 10;
  progress.cached_tokens = 4;
  progress.completion_tokens = 3;
  recorder.on_sent(progress, at(2000), at(2000));
  recorder.on_end(progress, "", 3, true, at(2500));
  // Positions 4 .. 9 of the prompt and 10, 11 of the answer, whose last token is not computed.
  EXPECT_EQ(recorder.measures().total().prefill_pairs, 5U + 6 + 7 + 8 + 9 + 10);
  EXPECT_EQ(recorder.measures().total().decode_pairs, 11U + 12);
}

TEST_F(RecorderTest, LeavesTheWarmUpOutOfAllButTheCurves) {
  Recorder recorder(options(), live_);
  answer(recorder, 900, 900, {950, 960});
  const Measures& measures = recorder.measures();
  EXPECT_EQ(measures.ttft.count(), 0U);
  EXPECT_EQ(measures.itl.count(), 0U);
  EXPECT_EQ(measures.total().sent, 0U);
  ASSERT_EQ(measures.seconds.size(), 1U);
  EXPECT_EQ(measures.seconds[0].sent, 1U);
  EXPECT_EQ(measures.seconds[0].tokens, 2U);
  EXPECT_EQ(measures.window_tokens, 0U);
}

TEST_F(RecorderTest, CountsGoodRequestsByTheSlo) {
  Recorder recorder(options(), live_);
  answer(recorder, 2000, 2000, {2050, 2065});  // good
  answer(recorder, 2000, 2000, {2150, 2160});  // first token too late
  answer(recorder, 2000, 2000, {2050, 2090});  // tokens too far apart
  EXPECT_EQ(recorder.measures().total().completed, 3U);
  EXPECT_EQ(recorder.measures().total().good, 1U);
  EXPECT_EQ(recorder.measures().window_good, 1U);
}

TEST_F(RecorderTest, TellsFailuresByKindAndCancelsApart) {
  Recorder recorder(options(), live_);
  answer(recorder, 2000, 2000, {}, "http 429");
  answer(recorder, 2000, 2000, {}, "http 429");
  answer(recorder, 2000, 2000, {2010}, "cancelled");
  const Measures& measures = recorder.measures();
  EXPECT_EQ(measures.errors.at("http 429"), 2U);
  EXPECT_EQ(measures.errors.size(), 1U);
  EXPECT_EQ(measures.total().failed, 2U);
  EXPECT_EQ(measures.total().cancelled, 1U);
  EXPECT_EQ(measures.ttft.count(), 0U);
  EXPECT_EQ(live_.in_flight.load(), 0U);
}

TEST_F(RecorderTest, LostTokensAreAFailure) {
  Recorder recorder(options(), live_);
  answer(recorder, 2000, 2000, {2010, 2020}, "", 0, 3);  // the server says three
  answer(recorder, 2000, 2000, {2010, 2020}, "", 3);     // we asked for three
  answer(recorder, 2000, 2000, {2010, 2020}, "", 2, 2);
  EXPECT_EQ(recorder.measures().errors.at("lost tokens"), 2U);
  EXPECT_EQ(recorder.measures().total().completed, 1U);
}

TEST_F(RecorderTest, TokensOutsideTheWindowDoNotCountAsThroughput) {
  Recorder recorder(options(), live_);
  answer(recorder, 9000, 9000, {9500, 9900, 10'100, 10'500});
  EXPECT_EQ(recorder.measures().window_tokens, 2U);
  EXPECT_EQ(recorder.measures().window_completed, 0U);
  EXPECT_EQ(recorder.measures().total().output_tokens, 4U);
}

TEST_F(RecorderTest, ThroughputCountsWhatEndedInTheWindowWheneverItBegan) {
  Recorder recorder(options(), live_);
  answer(recorder, 900, 900, {950, 1500});
  EXPECT_EQ(recorder.measures().window_completed, 1U);
  EXPECT_EQ(recorder.measures().window_good, 0U);  // its tokens were 550 ms apart
  EXPECT_EQ(recorder.measures().total().completed, 0U);
}

TEST_F(RecorderTest, SamplesStayBoundedAndSpread) {
  Recorder recorder(options(), live_);
  for (int i = 0; i < 20'000; ++i) answer(recorder, 2000 + i, 2000 + i, {2001 + i});
  const auto& samples = recorder.measures().samples;
  EXPECT_LE(samples.size(), 4096U);
  EXPECT_GE(samples.size(), 2048U);
  EXPECT_LT(samples.front().at_seconds, 2.1F);
  EXPECT_GT(samples.back().at_seconds, 21.9F);
}

TEST_F(RecorderTest, MergeAddsThreads) {
  Recorder a(options(), live_);
  Recorder b(options(), live_);
  answer(a, 2000, 2000, {2010, 2020});
  answer(b, 3000, 3000, {3010, 3020});
  answer(b, 3000, 3000, {}, "closed");
  Measures sum;
  sum.merge(a.measures());
  sum.merge(b.measures());
  EXPECT_EQ(sum.total().sent, 3U);
  EXPECT_EQ(sum.total().output_tokens, 4U);
  EXPECT_EQ(sum.errors.at("closed"), 1U);
  ASSERT_EQ(sum.seconds.size(), 4U);
  EXPECT_EQ(sum.seconds[2].sent, 1U);
  EXPECT_EQ(sum.seconds[3].failed, 1U);
  EXPECT_EQ(sum.ttft.count(), 2U);
}

TEST(JainIndex, IsOneForEqualSharesAndOneOverNForOneWinner) {
  EXPECT_DOUBLE_EQ(jain_index({5, 5, 5, 5}), 1.0);
  EXPECT_DOUBLE_EQ(jain_index({8, 0, 0, 0}), 0.25);
  EXPECT_DOUBLE_EQ(jain_index({1, 3}), 16.0 / 20.0);
  EXPECT_DOUBLE_EQ(jain_index({0, 0}), 1.0);
  EXPECT_DOUBLE_EQ(jain_index({}), 1.0);
}

}  // namespace
}  // namespace latentd::loadtest

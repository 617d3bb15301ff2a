#include "server/text/stop_matcher.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace latentd {
namespace {

StopMatcher make(const std::vector<std::string>& stops, bool include = false) {
  auto matcher = StopMatcher::create(stops, include);
  EXPECT_TRUE(matcher.ok()) << matcher.status().to_string();
  return *std::move(matcher);
}

TEST(StopMatcher, PassesTextAtOnceWithoutStops) {
  StopMatcher matcher = make({});
  EXPECT_EQ(matcher.push("text"), "text");
  EXPECT_FALSE(matcher.stopped());
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, FindsAStopAcrossChunks) {
  StopMatcher matcher = make({"\nUser:"});
  EXPECT_EQ(matcher.push("Hello.\nU"), "Hello.");
  EXPECT_EQ(matcher.push("se"), "");
  EXPECT_EQ(matcher.push("r: more"), "");
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.matched(), 0);
  EXPECT_EQ(matcher.push("later"), "");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, HoldsBackOnlyWhatMayBecomeAStop) {
  StopMatcher matcher = make({"abcabd"});
  EXPECT_EQ(matcher.push("xabcab"), "x");
  EXPECT_EQ(matcher.push("c"), "abc");  // "abcabc": the last three may still start one
  EXPECT_EQ(matcher.push("z"), "abcz");
  EXPECT_EQ(matcher.push("abca"), "");
  EXPECT_EQ(matcher.finish(), "abca");
}

TEST(StopMatcher, KeepsTheStopInTheOutputWhenAsked) {
  StopMatcher matcher = make({"STOP"}, true);
  EXPECT_EQ(matcher.push("a ST"), "a ");
  EXPECT_EQ(matcher.push("OP b"), "STOP");
  EXPECT_TRUE(matcher.stopped());
}

TEST(StopMatcher, TheMatchThatIsCompleteFirstWins) {
  StopMatcher matcher = make({"abcd", "bc"});
  EXPECT_EQ(matcher.push("xabcd"), "xa");
  EXPECT_EQ(matcher.matched(), 1);
}

TEST(StopMatcher, OfMatchesThatEndTogetherTheLongestWins) {
  StopMatcher matcher = make({"c", "bc", "abc"});
  EXPECT_EQ(matcher.push("xab"), "x");
  EXPECT_EQ(matcher.push("c"), "");
  EXPECT_EQ(matcher.matched(), 2);
}

TEST(StopMatcher, NeverCutsACharacter) {
  // The two characters share their first bytes.
  StopMatcher matcher = make({"\xF0\x9F\x91\x8D"});
  EXPECT_EQ(matcher.push("a\xF0\x9F\x91\x8E"), "a\xF0\x9F\x91\x8E");
  EXPECT_EQ(matcher.push("b\xF0\x9F\x91\x8D"), "b");
}

TEST(StopMatcher, RefusesWhatIsOverTheLimits) {
  const auto refusal = [](const std::vector<std::string>& stops) {
    const auto matcher = StopMatcher::create(stops, false);
    EXPECT_EQ(matcher.status().code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(matcher.status().field(), "stop");
    return matcher.status().message();
  };
  EXPECT_EQ(refusal(std::vector<std::string>(17, "a")), "at most 16 stop strings, got 17");
  EXPECT_EQ(refusal({std::string(257, 'a')}), "a stop string has at most 256 bytes, got 257");
  refusal({""});
  refusal({"\xFF"});
  EXPECT_TRUE(StopMatcher::create(std::vector<std::string>(16, std::string(256, 'a')), false).ok());
}

// What a matcher must answer, from the whole text.
struct Naive {
  std::string text;
  int matched = -1;
};

Naive naive(const std::vector<std::string>& stops, bool include, const std::string& text) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    int best = -1;
    for (int i = 0; i < static_cast<int>(stops.size()); ++i) {
      const std::string& stop = stops[static_cast<std::size_t>(i)];
      if (!std::string_view(text).substr(0, end).ends_with(stop)) continue;
      if (best < 0 || stop.size() > stops[static_cast<std::size_t>(best)].size()) best = i;
    }
    if (best < 0) continue;
    const std::size_t cut = include ? 0 : stops[static_cast<std::size_t>(best)].size();
    return {text.substr(0, end - cut), best};
  }
  return {text, -1};
}

// The most that may be held back after `text`: the longest suffix that starts a stop.
std::size_t longest_start(const std::vector<std::string>& stops, std::string_view text) {
  std::size_t longest = 0;
  for (const std::string& stop : stops) {
    for (std::size_t size = 1; size < stop.size() && size <= text.size(); ++size) {
      if (text.ends_with(stop.substr(0, size))) longest = std::max(longest, size);
    }
  }
  return longest;
}

TEST(StopMatcher, EqualsANaiveMatcherForAnyChunks) {
  constexpr unsigned kSeed = 11;
  RecordProperty("seed", static_cast<int>(kSeed));
  std::mt19937 random(kSeed);
  const auto word = [&random](unsigned longest) {
    std::string out;
    for (auto i = 1 + random() % longest; i > 0; --i) out += static_cast<char>('a' + random() % 3);
    return out;
  };
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::string> stops;
    for (auto i = 1 + random() % 4; i > 0; --i) stops.push_back(word(6));
    const bool include = random() % 2 == 0;
    const std::string text = word(40);
    StopMatcher matcher = make(stops, include);
    std::string shown;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t size = 1 + random() % 7;
      shown += matcher.push(std::string_view(text).substr(at, size));
      at = std::min(text.size(), at + size);
      if (!matcher.stopped()) {
        ASSERT_EQ(at - shown.size(), longest_start(stops, text.substr(0, at)));
      }
    }
    shown += matcher.finish();
    const Naive expected = naive(stops, include, text);
    ASSERT_EQ(shown, expected.text) << "round " << round << " of seed " << kSeed;
    ASSERT_EQ(matcher.matched(), expected.matched);
  }
}

}  // namespace
}  // namespace latentd

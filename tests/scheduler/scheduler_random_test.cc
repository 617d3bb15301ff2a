// The scheduler under random traffic: every text is compared with what the request generates alone,
// and every invariant is checked after every step.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <utility>

#include "tests/support/scheduler_harness.h"

namespace latentd {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
constexpr int kSteps = 5'000;  // of each configuration
#else
constexpr int kSteps = 12'500;
#endif

struct Config {
  std::string name;
  int depth = 1;
  bool overcommit = false;
  bool prefix_cache = true;
  bool publish_generated = true;
  int alignment = 0;
  int num_pages = 48;
};

std::ostream& operator<<(std::ostream& out, const Config& config) { return out << config.name; }

HarnessOptions harness_options(const Config& config) {
  HarnessOptions options;
  options.num_pages = config.num_pages;
  options.scheduler.max_num_seqs = 8;
  options.scheduler.max_num_batched_tokens = 80;
  options.scheduler.max_model_len = 400;
  options.scheduler.pipeline_depth = config.depth;
  options.scheduler.overcommit = config.overcommit;
  options.scheduler.prefix_cache = config.prefix_cache;
  options.scheduler.publish_generated = config.publish_generated;
  options.scheduler.prefill_alignment = config.alignment;
  options.scheduler.pass_limit = std::chrono::milliseconds(200);
  options.scheduler.prefixes = {.max_depth = 2, .min_tokens = 16};
  return options;
}

struct Expected {
  std::vector<TokenId> text;
  std::vector<float> prompt_logprobs;
  bool may_end_early = false;  // cancelled, expired or failed
};

class RandomTraffic {
 public:
  RandomTraffic(const Config& config, std::uint64_t seed)
      : random_(seed), harness_(harness_options(config)) {
    harness_.runner.failing_position = 60;
    for (int i = 0; i < 4; ++i) {
      bases_.push_back(make_request(0, 300, 0, random_())->prompt);
    }
  }

  void run(int steps) {
    while (harness_.scheduler.stats().steps < static_cast<std::uint64_t>(steps)) {
      if (chance(25) && alive_.size() < 40) submit();
      if (chance(4) && !alive_.empty()) cancel();
      const bool worked = harness_.turn();
      ASSERT_TRUE(worked || harness_.scheduler.idle());
      collect();
      if (testing::Test::HasFatalFailure()) return;
    }
    harness_.run();
    collect();
    EXPECT_TRUE(alive_.empty());
    EXPECT_EQ(harness_.blocks.stats().used, 0);
    EXPECT_EQ(harness_.blocks.stats().promised, 0);
  }

  SchedulerStats stats() const { return harness_.scheduler.stats(); }

 private:
  int number(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }
  bool chance(int percent) { return number(1, 100) <= percent; }

  void submit() {
    auto request = std::make_unique<Request>();
    const std::uint64_t id = next_id_++;
    request->id = RequestId(id);
    const auto& base = bases_[static_cast<std::size_t>(number(0, 3))];
    // Often whole pages: the corner of "at most prompt - 1 tokens".
    const int shared = chance(50) ? 16 * number(1, 12) : number(1, 200);
    request->prompt.assign(base.begin(), base.begin() + shared);
    for (int i = chance(50) ? 0 : number(0, 60); i > 0; --i) {
      request->prompt.push_back(number(0, FakeRunner::kVocab - 1));
    }
    request->max_new_tokens = chance(10) ? 0 : number(1, 90);
    request->min_new_tokens = number(0, 5);
    if (chance(50)) request->stop_tokens = {number(0, 63), number(0, 63)};
    request->sampling.seed = random_();
    request->priority = chance(20) ? number(-2, 2) : 0;
    request->salt = chance(15) ? 1 : 0;
    request->wants_prompt_logprobs = chance(8);

    Expected expected;
    std::unique_ptr<TokenConstraint> oracle;
    if (chance(15)) {
      const int length = number(1, 40);
      request->constraint = std::make_unique<ResidueConstraint>(length);
      oracle = std::make_unique<ResidueConstraint>(length);
    }
    expected.text = FakeRunner::expected_text(*request, oracle.get());
    if (request->wants_prompt_logprobs) {
      for (std::size_t i = 1; i < request->prompt.size(); ++i) {
        expected.prompt_logprobs.push_back(
            FakeRunner::expected_prompt_logprob(*request, static_cast<int>(i)));
      }
    }
    if (chance(5)) {
      request->deadline = harness_.now + std::chrono::milliseconds(number(0, 3000));
      expected.may_end_early = true;
    }
    if (chance(3)) {
      harness_.runner.failing.insert(request->id);
      expected.may_end_early = true;
    }
    const Status status = harness_.scheduler.submit(std::move(request), harness_.now);
    if (status.ok()) alive_.emplace(RequestId(id), std::move(expected));
  }

  void cancel() {
    auto victim = alive_.begin();
    std::advance(victim, number(0, static_cast<int>(alive_.size()) - 1));
    victim->second.may_end_early = true;
    harness_.cancel(victim->first);
    harness_.scheduler.check_invariants();
  }

  void collect() {
    for (auto each = alive_.begin(); each != alive_.end();) {
      const Heard& heard = harness_.heard(each->first);
      if (!heard.finished) {
        ++each;
        continue;
      }
      compare(each->first, heard, each->second);
      harness_.runner.failing.erase(each->first);
      harness_.forget(each->first);
      each = alive_.erase(each);
    }
  }

  static void compare(RequestId id, const Heard& heard, const Expected& expected) {
    const bool ended =
        *heard.finished == FinishReason::kStop || *heard.finished == FinishReason::kLength;
    ASSERT_TRUE(ended || expected.may_end_early) << id.value() << heard.error.to_string();
    ASSERT_LE(heard.text.size(), expected.text.size());
    ASSERT_TRUE(std::equal(heard.text.begin(), heard.text.end(), expected.text.begin()))
        << "request " << id.value() << " has another text";
    if (!ended) return;
    ASSERT_EQ(heard.text.size(), expected.text.size()) << "request " << id.value();
    ASSERT_EQ(heard.started, 1);
    ASSERT_EQ(heard.prompt_logprobs.size(), expected.prompt_logprobs.size());
    for (std::size_t i = 0; i < expected.prompt_logprobs.size(); ++i) {
      ASSERT_EQ(heard.prompt_logprobs[i].logprob, expected.prompt_logprobs[i]);
    }
  }

  std::mt19937_64 random_;
  SchedulerHarness harness_;
  std::vector<std::vector<TokenId>> bases_;
  std::map<RequestId, Expected> alive_;
  std::uint64_t next_id_ = 1;
};

class SchedulerRandom : public testing::TestWithParam<Config> {};

INSTANTIATE_TEST_SUITE_P(
    Traffic, SchedulerRandom,
    testing::Values(Config{.name = "Depth1"}, Config{.name = "Depth2", .depth = 2},
                    Config{.name = "Overcommit1", .overcommit = true, .num_pages = 32},
                    Config{.name = "Overcommit2", .depth = 2, .overcommit = true, .num_pages = 32},
                    Config{.name = "NoPrefixCache", .depth = 2, .prefix_cache = false},
                    Config{
                        .name = "Aligned", .depth = 2, .publish_generated = false, .alignment = 32},
                    Config{.name = "AlignedOvercommit",
                           .depth = 2,
                           .overcommit = true,
                           .publish_generated = false,
                           .alignment = 48,
                           .num_pages = 32},
                    Config{.name = "ManyPages", .depth = 2, .num_pages = 200}),
    [](const auto& param_info) { return param_info.param.name; });

TEST_P(SchedulerRandom, KeepsEveryTextAndEveryInvariant) {
  const std::uint64_t seed = 20261124;
  RecordProperty("seed", std::to_string(seed));
  SCOPED_TRACE("seed " + std::to_string(seed));
  RandomTraffic traffic(GetParam(), seed);
  traffic.run(kSteps);
  const SchedulerStats stats = traffic.stats();
  EXPECT_GE(stats.steps, static_cast<std::uint64_t>(kSteps));
  EXPECT_EQ(stats.preemptions > 0, GetParam().overcommit);
  EXPECT_EQ(stats.prompt_tokens_cached > 0, GetParam().prefix_cache);
}

}  // namespace
}  // namespace latentd

#include "engine/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <mutex>
#include <thread>

#include "tests/support/golden.h"
#include "tests/support/inbox.h"

namespace latentd {
namespace {

EngineOptions small_options() {
  EngineOptions options;
  options.cpu_threads = 1;
  options.kv_cache_tokens = 2'048;
  options.page_tokens = 16;
  options.max_model_len = 256;
  return options;
}

std::unique_ptr<Request> request(std::uint64_t id, int max_new_tokens, int prompt_tokens = 5) {
  auto made = std::make_unique<Request>();
  made->id = RequestId(id);
  for (int i = 0; i < prompt_tokens; ++i) made->prompt.push_back((i * 7 + 3) % 250);
  made->max_new_tokens = max_new_tokens;
  made->sampling.temperature = 0.0F;
  made->sampling.seed = id;
  return made;
}

class EngineTest : public ::testing::Test {
 protected:
  void start(const EngineOptions& options = small_options()) {
    auto loaded =
        Engine::load(test::tiny_checkpoint("v3-grouped-yarn-fp32"), options, inbox_.sink());
    ASSERT_TRUE(loaded.ok()) << loaded.status().to_string();
    engine_ = *std::move(loaded);
  }

  // Waits until the engine thread published a snapshot that satisfies `predicate`.
  template <typename Predicate>
  bool wait_stats(Predicate predicate) const {
    const TimePoint until = steady_now() + kTestPatience;
    while (!predicate(engine_->stats())) {
      if (steady_now() > until) return false;
      std::this_thread::yield();
    }
    return true;
  }

  Inbox inbox_;
  std::unique_ptr<Engine> engine_;
};

TEST_F(EngineTest, AnswersWithEventsInOrderAndFreesEverything) {
  start();
  ASSERT_TRUE(engine_->submit(request(1, 10)).ok());
  const Inbox::Thread thread = inbox_.wait_finished(1);
  EXPECT_EQ(thread.tokens.size(), 10U);
  EXPECT_EQ(thread.kinds.front(), Event::Kind::kStarted);
  EXPECT_EQ(thread.reason, FinishReason::kLength);
  EXPECT_TRUE(wait_stats([](const EngineStats& stats) {
    return stats.scheduler.num_running == 0 && stats.scheduler.blocks.used == 0 &&
           stats.scheduler.blocks.promised == 0;
  }));
  EXPECT_EQ(engine_->stats().scheduler.generated_tokens, 10U);
}

TEST_F(EngineTest, GivesTheSameTextAtBothDepthsAndBesideOthers) {
  start();
  ASSERT_TRUE(engine_->submit(request(1, 30)).ok());
  const std::vector<TokenId> alone = inbox_.wait_finished(1).tokens;
  engine_.reset();

  EngineOptions overlapped = small_options();
  overlapped.pipeline_depth = 2;
  start(overlapped);
  for (std::uint64_t id = 2; id < 10; ++id) {
    ASSERT_TRUE(engine_->submit(request(id, 30, id == 5 ? 5 : static_cast<int>(id) * 9)).ok());
  }
  EXPECT_EQ(inbox_.wait_finished(5).tokens, alone);
  for (std::uint64_t id = 2; id < 10; ++id) inbox_.wait_finished(id);
}

TEST_F(EngineTest, StopsAtAStopToken) {
  start();
  ASSERT_TRUE(engine_->submit(request(1, 12)).ok());
  const std::vector<TokenId> tokens = inbox_.wait_finished(1).tokens;
  auto stopped = request(2, 12);
  stopped->stop_tokens = {tokens[6]};
  ASSERT_TRUE(engine_->submit(std::move(stopped)).ok());
  const Inbox::Thread thread = inbox_.wait_finished(2);
  const auto first = std::find(tokens.begin(), tokens.end(), tokens[6]) + 1;
  EXPECT_EQ(thread.tokens, std::vector<TokenId>(tokens.begin(), first));
  EXPECT_EQ(thread.reason, FinishReason::kStop);
}

TEST_F(EngineTest, CancelsARunningRequestAndFreesItsPages) {
  start();
  inbox_.at_tokens(1, 1, [this] { engine_->cancel(RequestId(1)); });
  ASSERT_TRUE(engine_->submit(request(1, 250)).ok());
  const Inbox::Thread thread = inbox_.wait_finished(1);
  EXPECT_EQ(thread.reason, FinishReason::kCancelled);
  EXPECT_LT(thread.tokens.size(), 250U);
  EXPECT_TRUE(
      wait_stats([](const EngineStats& stats) { return stats.scheduler.blocks.used == 0; }));
}

TEST_F(EngineTest, EndsARequestAtItsDeadline) {
  start();
  auto late = request(1, 250);
  late->deadline = steady_now();
  ASSERT_TRUE(engine_->submit(std::move(late)).ok());
  EXPECT_EQ(inbox_.wait_finished(1).reason, FinishReason::kDeadline);
}

TEST_F(EngineTest, RefusesAtOnceWhatCanNeverRun) {
  start();
  EXPECT_EQ(engine_->submit(request(1, 1, 0)).code(), StatusCode::kInvalidArgument);
  const Status too_long = engine_->submit(request(2, 200, 100));
  EXPECT_EQ(too_long.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(too_long.message().find("256"), std::string::npos) << too_long.message();
  auto biased = request(3, 1);
  biased->sampling.logit_bias.resize(5'000, {1, 0.5F});
  EXPECT_EQ(engine_->submit(std::move(biased)).field(), "logit_bias");
}

TEST_F(EngineTest, RefusesWhenTheMailboxIsFullButTakesCancels) {
  EngineOptions options = small_options();
  options.mailbox_capacity = 0;
  start(options);
  EXPECT_EQ(engine_->submit(request(1, 1)).code(), StatusCode::kResourceExhausted);
  engine_->cancel(RequestId(1));
}

TEST_F(EngineTest, TellsAWatcherWhatThePrefixCacheHoldsAndGains) {
  start();
  ASSERT_TRUE(engine_->submit(request(1, 1, 40)).ok());  // two full pages
  inbox_.wait_finished(1);

  std::mutex mutex;
  PrefixChanges heard;
  const auto sink = [&](const PrefixChanges& changes) {
    const std::lock_guard lock(mutex);
    EXPECT_EQ(changes.whole, heard.empty());
    heard.whole |= changes.whole;
    heard.changes.insert(heard.changes.end(), changes.changes.begin(), changes.changes.end());
    heard.tokens.insert(heard.tokens.end(), changes.tokens.begin(), changes.tokens.end());
  };
  engine_->watch_prefixes(sink);
  ASSERT_TRUE(engine_->submit(request(2, 1, 100)).ok());  // six full pages, two of them known
  inbox_.wait_finished(2);  // its events come after what they mean for the cache
  {
    const std::lock_guard lock(mutex);
    EXPECT_TRUE(heard.whole);
    ASSERT_EQ(heard.changes.size(), 6U);
    ASSERT_EQ(heard.tokens.size(), 6U * 16U);
    const std::vector<TokenId> prompt = request(2, 1, 100)->prompt;
    EXPECT_TRUE(std::equal(heard.tokens.begin(), heard.tokens.end(), prompt.begin()));
    EXPECT_EQ(heard.changes[5].parent, heard.changes[4].hash);
    heard = {};
  }
  engine_->watch_prefixes({});
  ASSERT_TRUE(engine_->submit(request(3, 1, 120)).ok());
  inbox_.wait_finished(3);
  const std::lock_guard lock(mutex);
  EXPECT_TRUE(heard.empty());
}

// Fails one row: no token passes its mask.
class NothingAllowed final : public TokenConstraint {
 public:
  bool accept(TokenId) override { return true; }
  void fill_mask(std::span<std::uint32_t> words) const override {
    std::fill(words.begin(), words.end(), 0U);
  }
  bool complete() const override { return false; }
};

TEST_F(EngineTest, FailsOneBadRequestAndLeavesItsNeighbourAlone) {
  start();
  ASSERT_TRUE(engine_->submit(request(1, 40)).ok());
  auto bad = request(2, 40);
  bad->constraint = std::make_unique<NothingAllowed>();
  ASSERT_TRUE(engine_->submit(std::move(bad)).ok());
  const Inbox::Thread failed = inbox_.wait_finished(2);
  EXPECT_EQ(failed.reason, FinishReason::kError);
  EXPECT_EQ(failed.error.code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(inbox_.wait_finished(1).tokens.size(), 40U);
  EXPECT_TRUE(engine_->healthy());
}

// Allows one token at a time, in a given order, and then ends.
class Recital final : public TokenConstraint {
 public:
  explicit Recital(std::vector<TokenId> tokens) : tokens_(std::move(tokens)) {}
  bool accept(TokenId token) override { return token == tokens_[next_++]; }
  void fill_mask(std::span<std::uint32_t> words) const override {
    std::fill(words.begin(), words.end(), 0U);
    if (complete()) return;
    const auto bit = static_cast<std::size_t>(tokens_[next_]);
    words[bit / 32] = 1U << (bit % 32);
  }
  bool complete() const override { return next_ == tokens_.size(); }

 private:
  std::vector<TokenId> tokens_;
  std::size_t next_ = 0;
};

TEST_F(EngineTest, FollowsAConstraintAtBothDepths) {
  const std::vector<TokenId> words = {9, 200, 9, 31, 7};
  for (const int depth : {1, 2}) {
    EngineOptions options = small_options();
    options.pipeline_depth = depth;
    start(options);
    const auto id = static_cast<std::uint64_t>(depth);
    auto recital = request(id, 40);
    recital->constraint = std::make_unique<Recital>(words);
    ASSERT_TRUE(engine_->submit(std::move(recital)).ok());
    const Inbox::Thread thread = inbox_.wait_finished(id);
    EXPECT_EQ(thread.tokens, words);
    EXPECT_EQ(thread.reason, FinishReason::kStop);
    engine_.reset();
  }
}

TEST_F(EngineTest, FinishesEverybodyWhenItStops) {
  start();
  for (std::uint64_t id = 1; id <= 20; ++id) ASSERT_TRUE(engine_->submit(request(id, 200)).ok());
  engine_->stop();
  for (std::uint64_t id = 1; id <= 20; ++id) {
    EXPECT_EQ(inbox_.wait_finished(id).reason, FinishReason::kCancelled) << id;
  }
  EXPECT_EQ(engine_->submit(request(21, 1)).code(), StatusCode::kUnavailable);
}

TEST_F(EngineTest, MapsThePagesForWhoeverAsks) {
  start();
  ASSERT_TRUE(engine_->submit(request(1, 3)).ok());
  inbox_.wait_finished(1);
  EXPECT_TRUE(engine_->page_map().runs.empty()) << "nobody had asked";
  // The engine's thread draws it in its first turn after the question; by the end of the second
  // request that turn is over.
  ASSERT_TRUE(engine_->submit(request(2, 40, 50)).ok());
  inbox_.wait_finished(2);
  ASSERT_TRUE(engine_->submit(request(3, 1)).ok());
  inbox_.wait_finished(3);
  const PageMap map = engine_->page_map();
  int pages = 0;
  for (const PageRun& run : map.runs) pages += run.count;
  EXPECT_EQ(pages, engine_->info().num_pages);
  EXPECT_NE(map.time, TimePoint{});
}

TEST_F(EngineTest, ReportsWhatItIs) {
  start();
  const EngineInfo& info = engine_->info();
  Duration parts{};
  for (const LoadPart& part : info.load_parts) parts += part.time;
  EXPECT_GT(info.load_parts.size(), 3U);
  EXPECT_LE(parts, info.load_time);
  EXPECT_EQ(info.device, "cpu");
  EXPECT_EQ(info.num_pages, 128);
  EXPECT_EQ(info.page_tokens, 16);
  EXPECT_EQ(info.max_model_len, 256);
  EXPECT_GT(info.weight_bytes, 0U);
  EXPECT_LT(info.kv_bytes_per_token, info.mha_kv_bytes_per_token);
  ASSERT_FALSE(info.memory.empty());
  EXPECT_EQ(info.memory.front().purpose, "weights");
  EXPECT_EQ(info.memory.front().bytes, info.weight_bytes);
  EXPECT_EQ(info.memory.back().purpose, "cache");
  EXPECT_EQ(info.memory.back().bytes, info.kv_bytes_per_token * 128 * 16);
}

TEST_F(EngineTest, MakesUpWeightsThatNoFileGives) {
  EngineOptions options = small_options();
  options.load_format = LoadFormat::kRandom;
  start(options);
  ASSERT_TRUE(engine_->submit(request(1, 20)).ok());
  const std::vector<TokenId> first = inbox_.wait_finished(1).tokens;
  EXPECT_EQ(first.size(), 20U);
  engine_.reset();
  start(options);
  ASSERT_TRUE(engine_->submit(request(2, 20)).ok());
  EXPECT_EQ(inbox_.wait_finished(2).tokens, first);
}

TEST(EngineLoad, TellsWhetherTheBuildOrTheMachineLacksCuda) {
  EngineOptions options = small_options();
  options.device = Device::kCuda;
  auto loaded =
      Engine::load(test::tiny_checkpoint("v3-grouped-yarn-fp32"), options, [](std::span<Event>) {});
  if (loaded.ok()) GTEST_SKIP() << "a CUDA device answers";
  const Status& status = loaded.status();
  const bool built = status.code() == StatusCode::kUnavailable &&
                     status.message().find("looking for CUDA devices") != std::string::npos;
  const bool not_built = status.code() == StatusCode::kUnimplemented &&
                         status.message().find("LATENTD_CUDA=ON") != std::string::npos;
  EXPECT_TRUE(built || not_built) << status.to_string();
}

TEST(EngineLoad, ChoosesADeviceThatAnswersWhenToldToChoose) {
  EngineOptions options = small_options();
  options.device = Device::kAuto;
  options.dtype = DType::kF32;
  const auto engine =
      Engine::load(test::tiny_checkpoint("v3-grouped-yarn-fp32"), options, [](std::span<Event>) {});
  ASSERT_TRUE(engine.ok()) << engine.status().to_string();
  EXPECT_FALSE((*engine)->info().device.empty());
}

TEST(EngineLoad, NamesWhatIsMissing) {
  const Status status = Engine::load("/nonexistent/model", {}, [](std::span<Event>) {}).status();
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_NE(status.message().find("config.json"), std::string::npos) << status.message();
}

TEST(EngineLoad, NamesGroupedAttentionAndCountsItsCache) {
  EngineOptions options;
  options.max_model_len = 64;
  options.kv_cache_tokens = 1024;
  const auto engine =
      Engine::load(test::tiny_checkpoint("llama-gqa-bf16"), options, [](std::span<Event>) {});
  ASSERT_TRUE(engine.ok()) << engine.status().to_string();
  const EngineInfo& info = (*engine)->info();
  EXPECT_EQ(info.device, "cpu");
  EXPECT_EQ(info.attention, "GQA");
  EXPECT_EQ(info.kv_bytes_per_token, 256U);  // 2 layers, 2 heads of 16, keys and values, bf16
  EXPECT_EQ(info.mha_kv_bytes_per_token, 512U);
}

}  // namespace
}  // namespace latentd

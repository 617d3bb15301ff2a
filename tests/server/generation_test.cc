#include "server/generation.h"

#include <gmock/gmock.h>

#include "server/metrics.h"
#include "tests/server/test_model.h"

namespace latentd {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

class GenerationTest : public ::testing::Test {
 protected:
  Generation& start(GenerationRequest request) {
    auto prepared = prepare(std::move(request), *model_);
    EXPECT_TRUE(prepared.ok()) << prepared.status().to_string();
    generation_ = std::make_unique<Generation>(
        GenerationId(3), *std::move(prepared), *model_, metrics_, intake_.try_take(),
        [this](GenerationUpdate update) { updates_.push_back(std::move(update)); }, now_);
    return *generation_;
  }

  static GenerationRequest request_of(std::string prompt) {
    GenerationRequest request;
    request.prompts = {std::move(prompt)};
    return request;
  }

  void send(Event event, int choice = 0) {
    generation_->on_event(choice, event, now_, cancels_);
    generation_->flush();
  }
  void send_token(TokenId token, int choice = 0) {
    Event event;
    event.kind = Event::Kind::kToken;
    event.token = {token, -0.5F};
    send(std::move(event), choice);
  }
  void send_text(const std::string& text, int choice = 0) {
    for (const char c : text) send_token(static_cast<unsigned char>(c), choice);
  }
  void finish(FinishReason reason, int choice = 0, TokenId stop_token = -1, Status error = {}) {
    Event event;
    event.kind = Event::Kind::kFinished;
    event.reason = reason;
    event.stop_token = stop_token;
    event.error = std::move(error);
    send(std::move(event), choice);
  }

  std::string text(int choice = 0) const {
    std::string out;
    for (const auto& update : updates_) {
      for (const auto& delta : update.choices) {
        if (delta.choice == choice) out += delta.text;
      }
    }
    return out;
  }
  std::vector<TokenId> tokens() const {
    std::vector<TokenId> out;
    for (const auto& update : updates_) {
      for (const auto& delta : update.choices) {
        for (const auto& piece : delta.tokens) out.push_back(piece.token.token);
      }
    }
    return out;
  }
  const Finish& last_finish() const { return *updates_.back().choices.back().finish; }

  TimePoint now_ = steady_now();
  std::unique_ptr<ServingModel> model_ = testing::make_test_model();
  Metrics metrics_{[] { return ServerState::kReady; }};
  Intake intake_{8};
  std::vector<GenerationUpdate> updates_;
  std::vector<RequestId> cancels_;
  std::unique_ptr<Generation> generation_;
};

TEST_F(GenerationTest, StreamsTextAndEndsWithTheLength) {
  start(request_of("abc"));
  send_text("hi");
  EXPECT_EQ(text(), "hi");
  finish(FinishReason::kLength);
  ASSERT_TRUE(updates_.back().done);
  EXPECT_EQ(last_finish().kind, FinishKind::kLength);
  EXPECT_EQ(updates_.back().usage.prompt_tokens, 3);
  EXPECT_EQ(updates_.back().usage.completion_tokens, 2);
  EXPECT_TRUE(generation_->over());
}

TEST_F(GenerationTest, AccountsForTimeInTheQueueAndCacheHeldOverTime) {
  model_->info.kv_bytes_per_token = 10;
  start(request_of("abc"));
  const auto pass = [this](int seconds) { now_ += std::chrono::seconds(seconds); };
  pass(1);
  Event started;
  started.kind = Event::Kind::kStarted;
  started.time = now_;
  send(started);
  pass(2);
  send_text("x");
  pass(3);
  send_text("y");
  pass(4);
  finish(FinishReason::kLength);
  const Cost& cost = updates_.back().usage.cost;
  EXPECT_DOUBLE_EQ(cost.queue_seconds, 1.0);
  EXPECT_DOUBLE_EQ(cost.first_token_seconds, 3.0);
  // 3 tokens of prompt for 9 s, "x" for 7 s, "y" for 4 s.
  EXPECT_DOUBLE_EQ(cost.kv_byte_seconds, 10.0 * (3 * 9 + 7 + 4));
}

TEST_F(GenerationTest, NeverShowsHalfACharacter) {
  start(request_of("a"));
  send_text("\xE2\x82");
  EXPECT_EQ(text(), "");
  EXPECT_THAT(tokens(), SizeIs(2));
  send_text("\xAC");
  EXPECT_EQ(text(), "\xE2\x82\xAC");
}

TEST_F(GenerationTest, StopStringEndsTheTextDropsWhatFollowsAndCancelsTheEngine) {
  GenerationRequest request = request_of("a");
  request.stop = {"END"};
  start(request);
  send_text("one EN");
  EXPECT_EQ(text(), "one ");
  send_text("Dtwo");
  EXPECT_EQ(text(), "one ");
  ASSERT_TRUE(updates_.back().done);
  EXPECT_EQ(last_finish().kind, FinishKind::kStop);
  EXPECT_EQ(last_finish().stop_string, "END");
  EXPECT_EQ(updates_.back().usage.completion_tokens, 7);  // "two" is not billed
  EXPECT_THAT(cancels_, ElementsAre(request_id(GenerationId(3), 0)));
  EXPECT_FALSE(generation_->over());
  const std::size_t told = updates_.size();
  finish(FinishReason::kCancelled);
  EXPECT_TRUE(generation_->over());
  EXPECT_THAT(updates_, SizeIs(told));
}

TEST_F(GenerationTest, StopTokenLeavesNoTextUnlessAskedFor) {
  GenerationRequest request = request_of("a");
  request.stop_token_ids = {'.'};
  start(request);
  send_text("x.");
  finish(FinishReason::kStop, 0, '.');
  EXPECT_EQ(text(), "x");
  EXPECT_THAT(tokens(), ElementsAre('x', '.'));
  EXPECT_EQ(last_finish().stop_token, '.');

  updates_.clear();
  request.include_stop_in_output = true;
  start(request);
  send_text("x.");
  finish(FinishReason::kStop, 0, '.');
  EXPECT_EQ(text(), "x.");
}

TEST_F(GenerationTest, StopTokenThatDidNotEndTheTextIsText) {
  GenerationRequest request = request_of("a");
  request.stop_token_ids = {'.'};
  request.min_tokens = 3;
  start(request);
  send_text("x.y");
  finish(FinishReason::kLength);
  EXPECT_EQ(text(), "x.y");
}

TEST_F(GenerationTest, SpecialTokensAreNoTextUnlessAskedFor) {
  GenerationRequest request = request_of("a");
  request.ignore_eos = true;
  start(request);
  send_token(testing::kEos);
  send_text("x");
  EXPECT_EQ(text(), "x");
  updates_.clear();
  request.skip_special_tokens = false;
  start(request);
  send_token(testing::kEos);
  EXPECT_EQ(text(), "<eos>");
}

TEST_F(GenerationTest, LooksForStopStringsOnlyAfterMinTokens) {
  GenerationRequest request = request_of("a");
  request.stop = {"b"};
  request.min_tokens = 3;
  start(request);
  send_text("abab");
  EXPECT_EQ(text(), "aba");
  EXPECT_TRUE(updates_.back().done);
}

TEST_F(GenerationTest, ChoicesEndOnTheirOwn) {
  GenerationRequest request = request_of("a");
  request.n = 2;
  start(request);
  send_text("x", 1);
  finish(FinishReason::kStop, 1, testing::kEos);
  EXPECT_FALSE(updates_.back().done);
  EXPECT_TRUE(updates_.back().usage.finishes.empty());
  send_text("y", 0);
  finish(FinishReason::kLength, 0);
  EXPECT_TRUE(updates_.back().done);
  EXPECT_EQ(text(0), "y");
  EXPECT_EQ(text(1), "x");
  EXPECT_EQ(updates_.back().usage.prompt_tokens, 1);
  EXPECT_THAT(updates_.back().usage.finishes, ElementsAre(FinishKind::kLength, FinishKind::kStop));
}

TEST_F(GenerationTest, OneFailedChoiceFailsAllAndCancelsTheOthers) {
  GenerationRequest request = request_of("a");
  request.n = 3;
  start(request);
  finish(FinishReason::kError, 1, -1, Status(StatusCode::kInternal, "logits were not finite"));
  ASSERT_TRUE(updates_.back().done);
  EXPECT_EQ(updates_.back().error.code(), StatusCode::kInternal);
  EXPECT_TRUE(updates_.back().usage.finishes.empty());
  EXPECT_THAT(cancels_,
              ElementsAre(request_id(GenerationId(3), 0), request_id(GenerationId(3), 2)));
}

TEST_F(GenerationTest, TellsACancelFromTheServersEnd) {
  start(request_of("a"));
  finish(FinishReason::kCancelled);
  EXPECT_EQ(updates_.back().error.code(), StatusCode::kUnavailable);

  updates_.clear();
  start(request_of("a"));
  generation_->cancel(cancels_);
  finish(FinishReason::kCancelled);
  EXPECT_TRUE(updates_.back().error.ok());
  EXPECT_EQ(last_finish().kind, FinishKind::kCancelled);
}

TEST_F(GenerationTest, DeadlineIsAnError) {
  start(request_of("a"));
  send_text("x");
  finish(FinishReason::kDeadline);
  EXPECT_EQ(updates_.back().error.code(), StatusCode::kDeadlineExceeded);
}

TEST_F(GenerationTest, OffsetsCountCharacters) {
  start(request_of("a"));
  send_text("\xC3\xA9x");
  std::vector<int> offsets;
  for (const auto& update : updates_) {
    for (const auto& piece : update.choices[0].tokens) offsets.push_back(piece.text_offset);
  }
  EXPECT_THAT(offsets, ElementsAre(0, 0, 1));
}

TEST_F(GenerationTest, HoldsItsPlaceInTheHouseUntilItIsGone) {
  start(request_of("a"));
  EXPECT_EQ(intake_.taken(), 1);
  generation_.reset();
  EXPECT_EQ(intake_.taken(), 0);
}

TEST_F(GenerationTest, CountsWhatItHasCost) {
  model_->info.kv_bytes_per_token = 10;
  start(request_of("abcdefghijklmno"));  // 15 tokens
  const auto at = [this](int ms, Event event, int steps) {
    event.time = now_ + std::chrono::milliseconds(ms);
    event.steps = steps;
    generation_->on_event(0, event, event.time, cancels_);
    generation_->flush();
  };
  Event started;
  started.cached_tokens = 4;
  at(100, started, 0);
  Event token;
  token.kind = Event::Kind::kToken;
  token.token = {'x', -0.5F};
  at(300, token, 2);
  at(400, token, 3);
  at(500, token, 4);
  Event finished;
  finished.kind = Event::Kind::kFinished;
  finished.reason = FinishReason::kLength;
  at(1500, finished, 5);
  const Usage& usage = updates_.back().usage;
  EXPECT_NEAR(usage.cost.queue_seconds, 0.1, 1e-6);
  EXPECT_NEAR(usage.cost.first_token_seconds, 0.3, 1e-6);
  EXPECT_NEAR(usage.cost.prefill_seconds, 0.2, 1e-6);
  EXPECT_NEAR(usage.cost.decode_seconds, 1.2, 1e-6);
  EXPECT_EQ(usage.cost.steps, 5);
  EXPECT_EQ(usage.cached_tokens, 4);
  EXPECT_NEAR(usage.cost.kv_byte_seconds, 10 * (15 * 1.4 + 1.2 + 1.1 + 1.0), 1e-6);
}

TEST_F(GenerationTest, ShowsAsManyLogprobsAsWereAskedForOfEach) {
  GenerationRequest request = request_of("ab");
  request.logprobs = 1;
  request.prompt_logprobs = 2;
  start(std::move(request));
  Event event;
  event.token = {'x', -0.5F};
  event.top = {{'x', -0.5F}, {'y', -1.0F}, {'z', -2.0F}};
  event.kind = Event::Kind::kPromptLogprob;
  send(event);
  EXPECT_THAT(updates_.back().choices.at(0).prompt_tokens.at(0).top, SizeIs(2));
  event.kind = Event::Kind::kToken;
  send(event);
  EXPECT_THAT(updates_.back().choices.at(0).tokens.at(0).top, SizeIs(1));
}

}  // namespace
}  // namespace latentd

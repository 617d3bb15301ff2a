#include "server/frontend.h"

#include <gmock/gmock.h>

#include <future>

#include "tests/server/test_model.h"

namespace latentd {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

// An engine that does nothing but remember: tests play its part.
class FrontendTest : public ::testing::Test {
 protected:
  ~FrontendTest() override { frontend_.close(); }

  void set_ready() {
    frontend_.set_ready(
        testing::make_test_model(),
        {[this](std::unique_ptr<Request> request) { return submit(*request); },
         [this](RequestId id, FinishReason) { cancelled(id); }, [] { return EngineStats(); }});
  }

  Status submit(const Request& request) {
    if (refuse_from_ >= 0 && static_cast<int>(submitted_.size()) >= refuse_from_) {
      return Status(StatusCode::kResourceExhausted, "full");
    }
    submitted_.push_back(request.id);
    salts_.push_back(request.salt);
    priorities_.push_back(request.priority);
    return ok_status();
  }

  void cancelled(RequestId id) {
    std::lock_guard lock(mutex_);
    cancels_.push_back(id);
    changed_.notify_all();
  }

  Result<GenerationId> launch(int n, const std::string& client_id = "") {
    GenerationRequest request;
    request.prompts = {std::string("abc")};
    request.n = n;
    request.cache_salt = cache_salt_;
    request.priority = priority_;
    auto slot = frontend_.reserve(caller_);
    if (!slot.ok()) return slot.status();
    auto prepared = prepare(request, *frontend_.model());
    if (!prepared.ok()) return prepared.status();
    return frontend_.launch(
        *std::move(prepared), *std::move(slot), client_id,
        [this](GenerationUpdate update) {
          std::lock_guard lock(mutex_);
          updates_.push_back(std::move(update));
          changed_.notify_all();
        },
        steady_now());
  }

  void send(RequestId id, Event::Kind kind, FinishReason reason = FinishReason::kLength) {
    Event event;
    event.request = id;
    event.kind = kind;
    event.token.token = 'x';
    event.reason = reason;
    frontend_.event_sink()(std::span(&event, 1));
  }

  template <typename Condition>
  void wait_for(const Condition& condition) {
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(changed_.wait_for(lock, std::chrono::seconds(10), condition));
  }

  Caller caller_;  // null: nobody is asked
  std::string cache_salt_;
  int priority_ = 0;
  Frontend frontend_{{.api_keys = {}, .max_queue = 4}};
  std::vector<RequestId> submitted_;
  std::vector<std::uint64_t> salts_;
  std::vector<int> priorities_;
  int refuse_from_ = -1;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<GenerationUpdate> updates_;  // guarded by mutex_
  std::vector<RequestId> cancels_;         // guarded by mutex_
};

TEST_F(FrontendTest, TakesNothingWhileLoadingOrWhenTold) {
  EXPECT_EQ(frontend_.reserve(nullptr).status().code(), StatusCode::kUnavailable);
  set_ready();
  EXPECT_EQ(frontend_.state(), ServerState::kReady);
  EXPECT_TRUE(frontend_.reserve(nullptr).ok());
  frontend_.set_draining();
  EXPECT_TRUE(frontend_.reserve(nullptr).ok());  // the propagation window
  frontend_.stop_accepting();
  EXPECT_EQ(frontend_.reserve(nullptr).status().code(), StatusCode::kUnavailable);
}

TEST_F(FrontendTest, ShedsWhatDoesNotFitTheHouse) {
  set_ready();
  ASSERT_TRUE(launch(3).ok());
  EXPECT_EQ(frontend_.in_house(), 3);
  EXPECT_EQ(launch(2).status().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(frontend_.in_house(), 3);
  EXPECT_TRUE(launch(1).ok());
  EXPECT_EQ(frontend_.reserve(nullptr).status().code(), StatusCode::kResourceExhausted);
}

TEST_F(FrontendTest, BringsEventsToTheirSinkAndGivesThePlaceBack) {
  set_ready();
  const auto id = launch(1);
  ASSERT_THAT(submitted_, ElementsAre(request_id(*id, 0)));
  send(submitted_[0], Event::Kind::kToken);
  send(submitted_[0], Event::Kind::kFinished);
  wait_for([this] { return !updates_.empty() && updates_.back().done; });
  frontend_.close();
  EXPECT_EQ(frontend_.in_house(), 0);
  std::string text;
  for (const auto& update : updates_) {
    for (const auto& delta : update.choices) text += delta.text;
  }
  EXPECT_EQ(text, "x");
}

TEST_F(FrontendTest, WithdrawsEveryChoiceWhenOneIsRefused) {
  set_ready();
  refuse_from_ = 2;
  EXPECT_EQ(launch(3).status().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(cancels_, submitted_);
  frontend_.close();
  EXPECT_EQ(frontend_.in_house(), 0);
  EXPECT_THAT(updates_, SizeIs(0));
}

TEST_F(FrontendTest, CancelReachesTheEngineForEveryChoice) {
  set_ready();
  const auto id = launch(2);
  frontend_.cancel(*id, "disconnect");
  wait_for([this] { return cancels_.size() == 2; });
  EXPECT_THAT(cancels_, ElementsAre(request_id(*id, 0), request_id(*id, 1)));
}

TEST_F(FrontendTest, AbortsByTheNameThatTheClientGave) {
  set_ready();
  ASSERT_TRUE(launch(1, "mine").ok());
  EXPECT_TRUE(frontend_.is_alive(nullptr, "mine"));
  EXPECT_EQ(frontend_.abort(nullptr, "other"), 0);
  EXPECT_EQ(frontend_.abort(nullptr, "mine"), 1);
  wait_for([this] { return cancels_.size() == 1; });
  send(submitted_[0], Event::Kind::kFinished, FinishReason::kCancelled);
  wait_for([this] { return !updates_.empty() && updates_.back().done; });
  EXPECT_EQ(updates_.back().choices[0].finish->kind, FinishKind::kCancelled);
  EXPECT_FALSE(frontend_.is_alive(nullptr, "mine"));
}

TEST_F(FrontendTest, ServesATenantUnderItsKeysPriorityAndSalt) {
  set_ready();
  priority_ = -7;
  ASSERT_TRUE(launch(1).ok());
  caller_ = std::make_shared<ApiKey>(KeyPolicy{.tenant = "a", .priority = 3});
  ASSERT_TRUE(launch(2).ok());
  cache_salt_ = "mine";
  ASSERT_TRUE(launch(1).ok());
  EXPECT_THAT(priorities_, ElementsAre(-7, 3, 3, 3));
  EXPECT_EQ(salts_[0], 0U);
  EXPECT_NE(salts_[1], 0U);
  EXPECT_EQ(salts_[2], salts_[1]);
  EXPECT_NE(salts_[3], salts_[1]);
}

TEST_F(FrontendTest, TenantsCannotTouchEachOthersRequests) {
  set_ready();
  caller_ = std::make_shared<ApiKey>(KeyPolicy{.tenant = "a"});
  const Caller other = std::make_shared<ApiKey>(KeyPolicy{.tenant = "b"});
  ASSERT_TRUE(launch(1, "mine").ok());
  EXPECT_FALSE(frontend_.is_alive(other, "mine"));
  EXPECT_EQ(frontend_.abort(other, "mine"), 0);
  EXPECT_TRUE(frontend_.is_alive(caller_, "mine"));
  EXPECT_EQ(frontend_.abort(caller_, "mine"), 1);
}

TEST_F(FrontendTest, AKeysUseEndsWithItsRequest) {
  set_ready();
  caller_ = std::make_shared<ApiKey>(
      KeyPolicy{.tenant = "", .tokens_per_minute = 5, .max_concurrent = 1});
  ASSERT_TRUE(launch(1).ok());  // three tokens of prompt
  EXPECT_EQ(launch(1).status().code(), StatusCode::kResourceExhausted);
  for (int i = 0; i < 2; ++i) send(submitted_[0], Event::Kind::kToken);
  send(submitted_[0], Event::Kind::kFinished);
  wait_for([this] { return !updates_.empty() && updates_.back().done; });
  frontend_.close();
  EXPECT_EQ(frontend_.in_house(), 0);
  EXPECT_GT(Frontend::retry_after_ms(caller_), 10'000);  // all five are used
  EXPECT_EQ(Frontend::retry_after_ms(nullptr), kRetryAfterMs);
  caller_->charge_tokens(2'000'000'000, steady_now());
  EXPECT_EQ(Frontend::retry_after_ms(caller_), 86'400'001);
}

TEST_F(FrontendTest, EventsOfNobodyAreDropped) {
  set_ready();
  send(request_id(GenerationId(77), 0), Event::Kind::kToken);
  frontend_.close();
  EXPECT_THAT(updates_, SizeIs(0));
}

TEST_F(FrontendTest, ClosingAnswersWhatWasPosted) {
  std::promise<void> before;
  std::promise<void> after;
  frontend_.post([&before] { before.set_value(); });
  frontend_.close();
  before.get_future().get();
  frontend_.post([&after] { after.set_value(); });
  after.get_future().get();
}

}  // namespace
}  // namespace latentd

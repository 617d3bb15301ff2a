// What goes wrong beneath the engine: a device that breaks, numbers that are none, cancels between
// launch and result. Each hurts those whom it must and nobody else (DESIGN rules 4 and 5).
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <thread>

#include "engine/engine.h"
#include "engine/model/json.h"
#include "tests/support/breaking_backend.h"
#include "tests/support/engine_rig.h"
#include "tests/support/golden.h"
#include "tests/support/inbox.h"

namespace latentd {
namespace {

constexpr TokenId kPoisoned = 77;

// A tiny checkpoint, the type of its cache and how many steps are in flight.
struct Setup {
  const char* name;
  const char* checkpoint;
  DType cache;
  int depth;
};

// GoogleTest looks for this name.
void PrintTo(const Setup& setup, std::ostream* out) {  // NOLINT
  *out << setup.name;
}

EngineOptions fault_options(DType cache, int depth) {
  EngineOptions options;
  options.kv_cache_dtype = cache;
  options.device = rig_device();
  options.cpu_threads = 1;
  options.kv_cache_tokens = 8'192;
  options.page_tokens = 16;
  options.max_model_len = 256;
  options.max_num_seqs = 8;
  options.pipeline_depth = depth;
  options.batch_invariant = true;
  return options;
}

std::unique_ptr<Request> request(std::uint64_t id, int max_new_tokens) {
  std::vector<TokenId> prompt;
  for (int i = 0; i < 9; ++i) prompt.push_back((static_cast<int>(id) * 13 + i * 7 + 3) % 70);
  auto made = EngineRig::request(id, std::move(prompt), max_new_tokens);
  made->sampling.temperature = 0.7F;
  made->sampling.logit_bias = {{kPoisoned, -100.0F}};  // nobody draws it
  return made;
}

// A copy of the checkpoint whose embedding of kPoisoned is not a number.
class PoisonedModel final {
 public:
  explicit PoisonedModel(const char* checkpoint)
      : directory_(std::filesystem::temp_directory_path() /
                   ("latentd-poisoned-" + std::to_string(::getpid()))) {
    std::filesystem::copy(test::tiny_checkpoint(checkpoint), directory_,
                          std::filesystem::copy_options::recursive |
                              std::filesystem::copy_options::overwrite_existing);
    poison(directory_ / "model.safetensors");
  }
  ~PoisonedModel() {
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }
  PoisonedModel(const PoisonedModel&) = delete;
  PoisonedModel& operator=(const PoisonedModel&) = delete;

  const std::filesystem::path& directory() const { return directory_; }

 private:
  static void poison(const std::filesystem::path& path) {
    std::filesystem::permissions(path, std::filesystem::perms::owner_write,
                                 std::filesystem::perm_options::add);
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    std::uint64_t header_bytes = 0;
    file.read(reinterpret_cast<char*>(&header_bytes), sizeof(header_bytes));
    std::string header(header_bytes, '\0');
    file.read(header.data(), static_cast<std::streamsize>(header_bytes));
    const Json tensor = parse_json(header).value().at("model.embed_tokens.weight");
    ASSERT_EQ(tensor.at("dtype"), "F32");
    const auto begin = tensor.at("data_offsets").at(0).get<std::uint64_t>();
    const auto width = tensor.at("shape").at(1).get<std::uint64_t>();
    const std::vector<float> row(width, std::numeric_limits<float>::quiet_NaN());
    file.seekp(static_cast<std::streamoff>(sizeof(header_bytes) + header_bytes + begin +
                                           kPoisoned * width * sizeof(float)));
    file.write(reinterpret_cast<const char*>(row.data()),
               static_cast<std::streamsize>(row.size() * sizeof(float)));
    ASSERT_TRUE(file.good());
  }

  std::filesystem::path directory_;
};

class EngineFault : public ::testing::TestWithParam<Setup> {
 protected:
  void start() { start(test::tiny_checkpoint(GetParam().checkpoint)); }
  void start(const std::filesystem::path& model) {
    auto backend = std::make_unique<BreakingBackend>(
        make_rig_backend({.cpu_threads = 1, .batch_invariant = true}));
    backend_ = backend.get();
    auto loaded = Engine::load(model, fault_options(GetParam().cache, GetParam().depth),
                               inbox_.sink(), std::move(backend));
    ASSERT_TRUE(loaded.ok()) << loaded.status().to_string();
    engine_ = *std::move(loaded);
  }

  void submit(std::uint64_t id, int max_new_tokens) {
    ASSERT_TRUE(engine_->submit(request(id, max_new_tokens)).ok());
  }

  // The text of a request when nobody else is there.
  std::vector<TokenId> alone(std::uint64_t id, int max_new_tokens) {
    Inbox inbox;
    auto engine = Engine::load(test::tiny_checkpoint(GetParam().checkpoint),
                               fault_options(GetParam().cache, 1), inbox.sink(),
                               make_rig_backend({.cpu_threads = 1, .batch_invariant = true}))
                      .value();
    EXPECT_TRUE(engine->submit(request(id, max_new_tokens)).ok());
    return inbox.wait_finished(id).tokens;
  }

  // Waits until the engine has published that no page is in use or promised.
  void expect_all_pages_free() const {
    const TimePoint until = steady_now() + kTestPatience;
    const auto busy = [this] {
      const BlockManagerStats& blocks = engine_->stats().scheduler.blocks;
      return blocks.used != 0 || blocks.promised != 0;
    };
    while (busy() && steady_now() < until) std::this_thread::yield();
    EXPECT_FALSE(busy());
  }

  Inbox inbox_;
  BreakingBackend* backend_ = nullptr;  // the engine's
  std::unique_ptr<Engine> engine_;
};

TEST_P(EngineFault, ABrokenDeviceFailsEverybodyWithAnErrorThatMayBeRetried) {
  start();
  constexpr std::uint64_t kRequests = 12;  // more than there are slots
  inbox_.at_tokens(1, 3, [this] {
    for (std::uint64_t id = 2; id <= kRequests; ++id) submit(id, 240);
    EXPECT_TRUE(engine_->healthy());
    backend_->break_after(20);  // in a few steps, when some of them run and some still wait
  });
  submit(1, 240);
  for (std::uint64_t id = 1; id <= kRequests; ++id) {
    const Inbox::Thread thread = inbox_.wait_finished(id);
    EXPECT_EQ(thread.reason, FinishReason::kError) << id;
    EXPECT_EQ(thread.error.code(), StatusCode::kUnavailable) << thread.error.to_string();
    EXPECT_LT(thread.tokens.size(), 240U);
  }
  EXPECT_FALSE(engine_->healthy());
  EXPECT_EQ(engine_->submit(request(99, 1)).code(), StatusCode::kUnavailable);
  engine_->cancel(RequestId(1));  // of no use, and no harm
}

// Forward, sample and wait of both steps in flight: every call may be the one that fails.
TEST_P(EngineFault, EverybodyHearsOfAFaultWhereverItComes) {
  for (int calls = 0; calls < 14; ++calls) {
    start();
    backend_->break_after(calls);
    const auto first = static_cast<std::uint64_t>(calls) * 10;
    for (std::uint64_t id = first; id < first + 3; ++id) {
      // The fault may be known before the last of them arrives.
      const Status status = engine_->submit(request(id, 100));
      if (status.ok()) {
        EXPECT_EQ(inbox_.wait_finished(id).error.code(), StatusCode::kUnavailable) << calls;
      } else {
        EXPECT_EQ(status.code(), StatusCode::kUnavailable) << calls;
      }
    }
    EXPECT_FALSE(engine_->healthy());
    engine_.reset();
  }
}

TEST_P(EngineFault, NumbersThatAreNoneFailTheirOwnRequestOnly) {
  const PoisonedModel model(GetParam().checkpoint);
  start(model.directory());
  const std::vector<TokenId> expected = alone(2, 60);
  submit(2, 60);
  inbox_.wait_tokens(2, 1);
  for (std::uint64_t id = 3; id < 8; ++id) {
    auto bad = request(id, 60);
    bad->prompt[static_cast<std::size_t>(id)] = kPoisoned;
    ASSERT_TRUE(engine_->submit(std::move(bad)).ok());
    submit(id + 10, 20);
  }
  for (std::uint64_t id = 3; id < 8; ++id) {
    const Inbox::Thread failed = inbox_.wait_finished(id);
    EXPECT_EQ(failed.reason, FinishReason::kError) << id;
    EXPECT_EQ(failed.error.code(), StatusCode::kInternal) << failed.error.to_string();
    EXPECT_TRUE(failed.tokens.empty());
    EXPECT_EQ(inbox_.wait_finished(id + 10).tokens.size(), 20U) << "a neighbour";
  }
  EXPECT_EQ(inbox_.wait_finished(2).tokens, expected);
  expect_all_pages_free();
  // Whoever gets the pages of those that failed is none the worse.
  submit(30, 100);
  EXPECT_EQ(inbox_.wait_finished(30).tokens, alone(30, 100));
  EXPECT_TRUE(engine_->healthy());
}

TEST_P(EngineFault, CancelsBetweenLaunchAndResultLeaveNeighboursAlone) {
  start();
  const std::vector<TokenId> expected = alone(1, 150);
  submit(1, 150);
  std::uint64_t next = 2;
  for (std::size_t tokens = 1; tokens < 40; tokens += 3) {
    // It is in the step in flight, or in the next.
    inbox_.at_tokens(next, 1, [this, next] { engine_->cancel(RequestId(next)); });
    submit(next, 200);
    EXPECT_EQ(inbox_.wait_finished(next).reason, FinishReason::kCancelled);
    ++next;
  }
  EXPECT_EQ(inbox_.wait_finished(1).tokens, expected);
  expect_all_pages_free();
}

constexpr const char* kLatents = "v3-grouped-yarn-fp32";
INSTANTIATE_TEST_SUITE_P(Models, EngineFault,
                         ::testing::Values(Setup{"latents_1", kLatents, DType::kF32, 1},
                                           Setup{"latents_2", kLatents, DType::kF32, 2},
                                           Setup{"fp8_latents_2", kLatents, DType::kF8E4M3, 2},
                                           Setup{"keys_and_values_2", "llama-mqa-linear-fp32",
                                                 DType::kF32, 2}),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace latentd

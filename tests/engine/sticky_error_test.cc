// A real sticky CUDA error under a running engine: a kernel of somebody else in this process traps.
// The device is of no use afterwards, so this is a program of its own, with one test.
#include <gtest/gtest.h>

#include "engine/engine.h"
#include "tests/engine/trap.h"
#include "tests/support/engine_rig.h"
#include "tests/support/golden.h"
#include "tests/support/inbox.h"

namespace latentd {
namespace {

TEST(StickyError, FailsEverybodyWithAnErrorThatMayBeRetriedAndEndsCleanly) {
  Inbox inbox;
  EngineOptions options;
  options.device = Device::kCuda;
  options.dtype = DType::kBF16;
  options.kv_cache_tokens = 16'384;
  options.max_model_len = 1'000;
  options.max_num_seqs = 4;
  auto engine =
      Engine::load(test::source_directory() / "models/latent-mini", options, inbox.sink()).value();
  constexpr std::uint64_t kRequests = 8;  // half of them wait
  for (std::uint64_t id = 1; id <= kRequests; ++id) {
    ASSERT_TRUE(engine->submit(EngineRig::request(id, {5, 6, 7, 8}, 900)).ok());
  }
  inbox.wait_tokens(1, 5);  // graphs are in flight
  ASSERT_TRUE(engine->healthy());
  test::launch_trap();
  for (std::uint64_t id = 1; id <= kRequests; ++id) {
    const Inbox::Thread thread = inbox.wait_finished(id);
    EXPECT_EQ(thread.reason, FinishReason::kError) << id;
    EXPECT_EQ(thread.error.code(), StatusCode::kUnavailable) << thread.error.to_string();
  }
  EXPECT_FALSE(engine->healthy());
  EXPECT_EQ(engine->submit(EngineRig::request(99, {5}, 1)).code(), StatusCode::kUnavailable);
  engine->stop();
  engine.reset();  // frees what it can of a device that answers no more
  // A new engine in this process is refused with the device's error, not taken down by it.
  const Status again =
      Engine::load(test::source_directory() / "models/latent-mini", options, inbox.sink()).status();
  EXPECT_EQ(again.code(), StatusCode::kUnavailable) << again.to_string();
}

}  // namespace
}  // namespace latentd

// Steps padded to buckets, which CUDA captures and replays, give what steps launched directly give:
// every token and every logprob, whoever joins, leaves or is cancelled in between.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "engine/graph_buckets.h"
#include "tests/support/engine_rig.h"
#include "tests/support/golden.h"

namespace latentd {
namespace {

constexpr int kRequests = 24;
constexpr int kSlots = 8;

std::unique_ptr<Request> make_request(std::uint64_t id, int vocab) {
  std::mt19937_64 random(id);
  const auto below = [&random](std::uint64_t limit) { return static_cast<int>(random() % limit); };
  std::vector<TokenId> prompt(static_cast<std::size_t>(1 + below(70)));
  for (TokenId& token : prompt) token = below(static_cast<std::uint64_t>(vocab));
  auto request =
      EngineRig::request(id, std::move(prompt), 1 + below(50), static_cast<float>(below(3)) * 0.5F);
  request->wants_prompt_logprobs = below(4) == 0;
  request->sampling.num_top_logprobs = below(3) - 1;
  if (below(3) == 0) request->sampling.repetition_penalty = 1.3F;
  if (below(3) == 0) request->sampling.logit_bias = {{below(8), 4.0F}};
  return request;
}

struct Outcomes {
  std::map<std::uint64_t, EngineRig::Outcome> of;
};

// Requests arrive a few at a time, so that batches of all sizes are met; some are cancelled. At
// depth 2 a step is in flight meanwhile.
Outcomes run(const std::filesystem::path& model, int depth, std::vector<int> buckets) {
  EngineRig rig(model, {.num_pages = 200,
                        .max_num_seqs = kSlots,
                        .pipeline_depth = depth,
                        .prefix_cache = false,
                        .batch_invariant = true,
                        .graph_buckets = std::move(buckets),
                        .record_logits = false});
  for (std::uint64_t id = 1; id <= kRequests; ++id) {
    rig.submit(make_request(id, rig.config().vocab_size));
    for (std::uint64_t turn = 0; turn < id % 4; ++turn) rig.turn();
    if (id % 7 == 0) rig.cancel(id - 1);
  }
  rig.run_until_idle();
  Outcomes outcomes;
  for (std::uint64_t id = 1; id <= kRequests; ++id) outcomes.of[id] = rig.outcome(id);
  return outcomes;
}

class GraphReplay : public ::testing::TestWithParam<int> {};

TEST_P(GraphReplay, GivesWhatDirectLaunchesGive) {
  const auto model = test::source_directory() / "models/latent-mini";
  const Outcomes direct = run(model, GetParam(), {});
  const Outcomes replayed = run(model, GetParam(), graph_buckets(kSlots));
  int tokens = 0;
  for (const auto& [id, expected] : direct.of) {
    SCOPED_TRACE("request " + std::to_string(id));
    const EngineRig::Outcome& actual = replayed.of.at(id);
    EXPECT_TRUE(actual.finished);
    EXPECT_EQ(expected.reason, actual.reason);
    if (id % 7 == 6) continue;  // cancelled wherever it was
    EXPECT_EQ(expected.tokens, actual.tokens);
    EXPECT_EQ(expected.logprobs, actual.logprobs);
    EXPECT_EQ(expected.prompt_logprobs, actual.prompt_logprobs);
    tokens += static_cast<int>(actual.tokens.size());
  }
  EXPECT_GT(tokens, 300);
}

INSTANTIATE_TEST_SUITE_P(Depth, GraphReplay, ::testing::Values(1, 2));

TEST(GraphBuckets, AscendAndEndAtTheLargestBatch) {
  EXPECT_EQ(graph_buckets(1), (std::vector<int>{1}));
  EXPECT_EQ(graph_buckets(3), (std::vector<int>{1, 2, 3}));
  EXPECT_EQ(graph_buckets(8), (std::vector<int>{1, 2, 4, 8}));
  EXPECT_EQ(graph_buckets(30), (std::vector<int>{1, 2, 4, 8, 16, 24, 30}));
}

}  // namespace
}  // namespace latentd

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

// A model, the type of its cache and how many steps are in flight.
struct Setup {
  const char* name;
  const char* model;  // below the sources
  DType cache;
  int depth;
};

// GoogleTest looks for this name.
void PrintTo(const Setup& setup, std::ostream* out) {  // NOLINT
  *out << setup.name;
}

struct Outcomes {
  std::map<std::uint64_t, EngineRig::Outcome> of;
};

// Requests arrive a few at a time, so that batches of all sizes are met; some are cancelled. At
// depth 2 a step is in flight meanwhile.
Outcomes run(const Setup& setup, std::vector<int> buckets) {
  EngineRig rig(test::source_directory() / setup.model, {.num_pages = 200,
                                                         .max_num_seqs = kSlots,
                                                         .pipeline_depth = setup.depth,
                                                         .prefix_cache = false,
                                                         .kv_cache_dtype = setup.cache,
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

class GraphReplay : public ::testing::TestWithParam<Setup> {};

TEST_P(GraphReplay, GivesWhatDirectLaunchesGive) {
  const Outcomes direct = run(GetParam(), {});
  const Outcomes replayed = run(GetParam(), graph_buckets(kSlots));
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

constexpr const char* kMini = "models/latent-mini";
constexpr const char* kLlama = "tests/data/tiny/llama-gqa-llama3-fp32";
INSTANTIATE_TEST_SUITE_P(Models, GraphReplay,
                         ::testing::Values(Setup{"latents_1", kMini, DType::kF32, 1},
                                           Setup{"latents_2", kMini, DType::kF32, 2},
                                           Setup{"fp8_latents_2", kMini, DType::kF8E4M3, 2},
                                           Setup{"keys_and_values_2", kLlama, DType::kF32, 2}),
                         [](const auto& test) { return test.param.name; });

TEST(GraphBuckets, AscendAndEndAtTheLargestBatch) {
  EXPECT_EQ(graph_buckets(1), (std::vector<int>{1}));
  EXPECT_EQ(graph_buckets(3), (std::vector<int>{1, 2, 3}));
  EXPECT_EQ(graph_buckets(8), (std::vector<int>{1, 2, 4, 8}));
  EXPECT_EQ(graph_buckets(30), (std::vector<int>{1, 2, 4, 8, 16, 24, 30}));
}

}  // namespace
}  // namespace latentd

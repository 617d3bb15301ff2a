// The engine against transformers: logits at every position and greedy continuations of the tiny
// checkpoints, through scheduler, pages, chunks and runner.
//
// Error: max |difference| / max |logit| of a position. A differing greedy token passes only where
// the top-2 gap is smaller than the tolerance can decide; the rest of that continuation is then
// another text and is not compared.
#include "tests/support/golden.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <ostream>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "tests/support/engine_rig.h"
#include "tests/support/mla_oracle.h"

namespace latentd {
namespace {

constexpr double kFp32Error = 1e-4;
constexpr float kFp32Gap = 1e-3F;
// A narrow cache, against the oracle with the same rounding of cached rows. What is left are
// elements whose fp32 and double values fall on two sides of a rounding border: 2^-8 of that
// element each in bf16, 2^-3 in fp8.
struct Narrow {
  std::string_view name;
  DType cache;
  double error;
  double gap;
};
constexpr Narrow kBf16{"bf16", DType::kBF16, 1e-2, 0.1};
constexpr Narrow kFp8{"fp8", DType::kF8E4M3, 1e-1, 0.5};

// How the engine is run. Both prompts (23 and 133 tokens) run together: the short one is below one
// page and one chunk, the long one above both.
struct Setup {
  std::string_view name;
  int page_tokens = 64;
  int chunk_tokens = 48;  // max_num_batched_tokens
  int pipeline_depth = 1;
  int expanded_min_tokens = 0;
};

// GoogleTest looks for this name.
void PrintTo(const Setup& setup, std::ostream* out) {  // NOLINT
  *out << setup.name;
}

constexpr Setup kAbsorbed{.name = "absorbed"};
constexpr Setup kOverlapped{
    .name = "small_pages_overlapped", .page_tokens = 16, .chunk_tokens = 40, .pipeline_depth = 2};
constexpr Setup kExpanded{.name = "expanded", .expanded_min_tokens = 8};

constexpr std::uint64_t kShort = 1;
constexpr std::uint64_t kLong = 2;

// Runs both prompts of a checkpoint to the end of their continuations.
class GoldenRig {
 public:
  GoldenRig(const std::string& checkpoint, const Setup& setup, DType cache)
      : rig_(test::tiny_checkpoint(checkpoint), options(setup, cache)) {
    for (const auto& [id, length] : {std::pair(kLong, "long"), std::pair(kShort, "short")}) {
      const auto golden = test::load_golden(checkpoint, length);
      auto request = EngineRig::request(id, golden.prompt, static_cast<int>(golden.greedy.size()));
      request->wants_prompt_logprobs = true;  // asks for the logits of every position
      rig_.submit(std::move(request));
    }
    rig_.run_until_idle();
  }

  const std::vector<TokenId>& tokens(std::uint64_t id) const { return rig_.outcome(id).tokens; }

  // The logits of the first `count` positions, [count][vocab]; fewer when some are missing.
  std::vector<std::vector<double>> logits(std::uint64_t id, std::size_t count) const {
    std::vector<std::vector<double>> rows;
    for (const auto& [next, values] : rig_.logits(id)) {
      // Kept under the position of the token that they predict.
      if (next != static_cast<std::int32_t>(rows.size()) + 1 || rows.size() == count) break;
      rows.emplace_back(values.begin(), values.end());
    }
    return rows;
  }

 private:
  static RigOptions options(const Setup& setup, DType cache) {
    RigOptions options;
    options.page_tokens = setup.page_tokens;
    options.num_pages = 1024 / setup.page_tokens;
    options.max_num_batched_tokens = setup.chunk_tokens;
    options.pipeline_depth = setup.pipeline_depth;
    options.expanded_min_tokens = setup.expanded_min_tokens;
    options.kv_cache_dtype = cache;
    return options;
  }

  EngineRig rig_;
};

class EngineAgainstGolden : public testing::TestWithParam<std::tuple<std::string, Setup>> {
 protected:
  static void check(const GoldenRig& rig, std::uint64_t id, const test::GoldenRun& golden) {
    const auto logits = rig.logits(id, golden.prompt.size());
    ASSERT_EQ(logits.size(), golden.prompt.size());
    double worst = 0.0;
    for (std::size_t at = 0; at < logits.size(); ++at) {
      worst = std::max(worst, oracle::relative_error(logits[at], golden.logits_at(at)));
    }
    std::printf("prompt of %zu: error %.2e\n", golden.prompt.size(), worst);
    EXPECT_LT(worst, kFp32Error) << "prompt of " << golden.prompt.size();

    const std::vector<TokenId>& tokens = rig.tokens(id);
    ASSERT_EQ(tokens.size(), golden.greedy.size());
    const auto [ours, theirs] = std::mismatch(tokens.begin(), tokens.end(), golden.greedy.begin());
    if (ours == tokens.end()) return;
    const auto at = static_cast<std::size_t>(ours - tokens.begin());
    EXPECT_LT(golden.gaps[at], kFp32Gap)
        << "token " << at << " is " << *ours << ", golden " << *theirs;
  }
};

TEST_P(EngineAgainstGolden, GivesTheLogitsAndContinuationsOfTransformers) {
  const auto& [checkpoint, setup] = GetParam();
  const auto short_run = test::load_golden(checkpoint, "short");
  const auto long_run = test::load_golden(checkpoint, "long");
  ASSERT_LT(short_run.prompt.size(), static_cast<std::size_t>(setup.chunk_tokens));
  ASSERT_GT(long_run.prompt.size(), static_cast<std::size_t>(2 * setup.page_tokens));
  const GoldenRig rig(checkpoint, setup, DType::kF32);
  check(rig, kShort, short_run);
  check(rig, kLong, long_run);
}

void PrintTo(const Narrow& narrow, std::ostream* out) {  // NOLINT
  *out << narrow.name;
}

class EngineWithNarrowCache : public testing::TestWithParam<std::tuple<std::string, Narrow>> {};

TEST_P(EngineWithNarrowCache, GivesTheLogitsAndChoicesOfTheOracle) {
  const auto& [name, narrow] = GetParam();
  const auto directory = test::tiny_checkpoint(name);
  const ModelConfig config = load_model_config(directory).value();
  const Checkpoint checkpoint = Checkpoint::open(directory, config).value();
  const GoldenRig rig(name, kAbsorbed, narrow.cache);
  for (const auto& [id, length] : {std::pair(kShort, "short"), std::pair(kLong, "long")}) {
    // Along the engine's own text: every choice is judged, also after one that differs.
    std::vector<TokenId> text = test::load_golden(name, length).prompt;
    const std::size_t prompt = text.size();
    text.insert(text.end(), rig.tokens(id).begin(), rig.tokens(id).end());
    text.pop_back();
    const auto expected = oracle::forward(config, checkpoint.weights(), text, narrow.cache);
    const auto logits = rig.logits(id, text.size());
    ASSERT_EQ(logits.size(), text.size());
    double worst = 0.0;
    for (std::size_t at = 0; at < text.size(); ++at) {
      worst = std::max(worst, oracle::relative_error(logits[at], expected[at]));
    }
    std::printf("prompt of %zu: error %.2e\n", prompt, worst);
    EXPECT_LT(worst, narrow.error) << length;
    for (std::size_t i = 0; i < rig.tokens(id).size(); ++i) {
      const auto& row = expected[prompt - 1 + i];
      const double chosen = row[static_cast<std::size_t>(rig.tokens(id)[i])];
      EXPECT_LE(*std::max_element(row.begin(), row.end()) - chosen, narrow.gap)
          << length << " token " << i;
    }
  }
}

// "v2-greedy-fp32" -> "v2_greedy_fp32": GoogleTest allows no dashes.
std::string identifier(std::string name) {
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(TinyCheckpoints, EngineAgainstGolden,
                         testing::Combine(testing::ValuesIn(test::tiny_checkpoint_names()),
                                          testing::Values(kAbsorbed, kOverlapped, kExpanded)),
                         [](const auto& test) {
                           return identifier(std::get<0>(test.param) + "_" +
                                             std::string(std::get<1>(test.param).name));
                         });

INSTANTIATE_TEST_SUITE_P(TinyCheckpoints, EngineWithNarrowCache,
                         testing::Combine(testing::Values("v2-yarn-bf16", "v3-grouped-bf16",
                                                          "v2-grouped-yarn-fp32",
                                                          "v3-grouped-yarn-fp32"),
                                          testing::Values(kBf16, kFp8)),
                         [](const auto& test) {
                           return identifier(std::get<0>(test.param) + "_" +
                                             std::string(std::get<1>(test.param).name));
                         });

// Keys and values are cached in fp32 and bf16.
INSTANTIATE_TEST_SUITE_P(TinyCheckpointsOfGroupedAttention, EngineWithNarrowCache,
                         testing::Combine(testing::Values("llama-gqa-bf16",
                                                          "llama-mqa-linear-fp32"),
                                          testing::Values(kBf16)),
                         [](const auto& test) { return identifier(std::get<0>(test.param)); });

}  // namespace
}  // namespace latentd

#include "engine/bench/step_traffic.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/backend/cpu/cpu_backend.h"
#include "engine/bench/step_driver.h"
#include "engine/model/json.h"
#include "engine/random_weights.h"
#include "tests/support/forwarding_backend.h"

namespace latentd {
namespace {

// Two layers, the first dense; sizes small enough to count by hand.
ModelConfig small_config() {
  ModelConfig c;
  c.num_layers = 2;
  c.hidden_size = 16;
  c.num_heads = 2;
  c.kv_lora_rank = 8;
  c.qk_nope_head_dim = 4;
  c.qk_rope_head_dim = 4;
  c.v_head_dim = 4;
  c.intermediate_size = 32;
  c.vocab_size = 50;
  c.max_position_embeddings = 64;
  c.softmax_scale = 0.35F;
  c.moe.num_experts = 4;
  c.moe.num_shared_experts = 1;
  c.moe.experts_per_token = 2;
  c.moe.intermediate_size = 8;
  c.moe.first_dense_layers = 1;
  return c;
}

constexpr double kAttention = 2 * (16 + (2 * 8) * 16 + 12 * 16 + 8 + 2 * 8 * 8 + 16 * 8 + 16);
constexpr double kDenseMlp = 2 * 3 * 32 * 16;
constexpr double kExpert = 2 * 3 * 8 * 16;
constexpr double kRouter = 2 * 4 * 16;
constexpr double kHead = 2 * 50 * 16;
constexpr double kEmbeddingRow = 2 * 16;

TEST(StepTraffic, CountsEveryWeightThatAStepReads) {
  const auto backend = make_cpu_backend({.threads = 1}).value();
  const ModelWeights weights = random_weights(*backend, small_config(), 1).value();
  const double fixed = 2 * kAttention + kDenseMlp + kRouter + kExpert;
  // One token chooses half of the experts; two miss a given one with a chance of a quarter.
  EXPECT_DOUBLE_EQ(weight_bytes_touched(small_config(), weights, {1, 1, 0, 1}),
                   fixed + kEmbeddingRow + 0.5 * 4 * kExpert + kHead);
  EXPECT_DOUBLE_EQ(weight_bytes_touched(small_config(), weights, {2, 1, 0, 0}),
                   fixed + 2 * kEmbeddingRow + 0.75 * 4 * kExpert);
}

TEST(StepTraffic, CountsTheWeightsOfGroupedAttention) {
  ModelConfig config = small_config();
  config.attention = AttentionKind::kGrouped;
  config.num_kv_heads = 1;
  config.qk_nope_head_dim = 0;
  config.moe = {};
  const auto backend = make_cpu_backend({.threads = 1}).value();
  const ModelWeights weights = random_weights(*backend, config, 1).value();
  // Two heads of 4 for queries, one for keys and for values; two norms.
  constexpr double kGrouped = 2 * (16 + 8 * 16 + 4 * 16 + 4 * 16 + 16 * 8 + 16);
  EXPECT_DOUBLE_EQ(weight_bytes_touched(config, weights, {1, 1, 0, 1}),
                   2 * (kGrouped + kDenseMlp) + kEmbeddingRow + kHead);
}

TEST(StepTraffic, CountsContextsOnceAndNewTokensTwice) {
  const CacheLayout layout = CacheLayout::mla(2, 8, 4, DType::kBF16);
  EXPECT_DOUBLE_EQ(cache_bytes_touched(layout, {3, 2, 100, 3}), 3 * (100 + 4) * 2 * 12 * 2.0);
}

TEST(StepDriver, RunsPromptsInChunksAndBatches) {
  const ModelConfig config = small_config();
  const auto backend = make_cpu_backend({.threads = 1}).value();
  const ModelWeights weights = random_weights(*backend, config, 1).value();
  const CacheLayout layout = CacheLayout::mla(2, 8, 4, DType::kBF16);
  for (const int depth : {1, 2}) {
    StepDriverOptions options;
    options.lengths = {40, 40, 40};
    options.chunk = 16;
    options.depth = depth;
    const auto driver = StepDriver::create(*backend, config, weights, layout, options).value();
    EXPECT_GT(driver->prefill(1, 2, 0, 35).value(), 0.0);
    EXPECT_EQ(driver->decode(3, 36, 4).value().size(), 4U);
  }
}

// Counts the bytes of the cache.
class CacheWatch final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  Result<std::unique_ptr<Buffer>> allocate(MemoryKind kind, std::size_t bytes,
                                           std::string_view purpose) override {
    if (purpose == "cache") cache_bytes += bytes;
    return inner().allocate(kind, bytes, purpose);
  }
  std::size_t cache_bytes = 0;
};

TEST(StepDriver, TakesCacheForWhatEachSlotHoldsAndSharedPagesOnce) {
  ModelConfig config = small_config();
  config.max_position_embeddings = 1024;
  CacheWatch backend(make_cpu_backend({.threads = 1}).value());
  const ModelWeights weights = random_weights(backend, config, 1).value();
  const CacheLayout layout = CacheLayout::mla(2, 8, 4, DType::kBF16);
  const int page = layout.page_tokens();
  const auto pages_taken = [&](std::vector<int> lengths, int shared) {
    StepDriverOptions options;
    options.lengths = std::move(lengths);
    options.shared = shared;
    backend.cache_bytes = 0;
    const auto driver = StepDriver::create(backend, config, weights, layout, options).value();
    EXPECT_GT(driver->prefill(0, 1, 0, 9 * page).value(), 0.0);
    return static_cast<int>(backend.cache_bytes / layout.page_bytes());
  };
  EXPECT_EQ(pages_taken({10 * page, page, page}, 0), 12);
  EXPECT_EQ(pages_taken({10 * page, 3 * page, 1}, 2 * page), 2 + 8 + 1);
  EXPECT_EQ(pages_taken({10 * page, 10 * page}, 1000 * page), 10);
}

TEST(BenchConfig, IsOf122MillionParameters) {
  const auto text = read_text_file(LATENTD_BENCH_CONFIG, std::size_t{1} << 20).value();
  const ModelConfig config = parse_model_config(text).value();
  const auto backend = make_cpu_backend({.threads = 1}).value();
  const ModelWeights weights = random_weights(*backend, config, 0).value();
  EXPECT_EQ(parameter_count(weights) / 1'000'000, 122U);
}

}  // namespace
}  // namespace latentd

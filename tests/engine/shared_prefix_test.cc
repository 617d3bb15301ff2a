// Prefixes that sequences share reach the device as they are, and whether it reads them once or not
// is no more than rounding.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <random>

#include "engine/graph_buckets.h"
#include "tests/support/engine_rig.h"
#include "tests/support/forwarding_backend.h"
#include "tests/support/golden.h"

namespace latentd {
namespace {

constexpr std::uint64_t kSeed = 20261130;
constexpr int kRequests = 12;

// Looks at what every step is divided by: rows of a prefix have its keys in the same pages, all
// before their own.
class PrefixWatch final : public ForwardingBackend {
 public:
  PrefixWatch(std::unique_ptr<Backend> inner, int page_tokens, int& steps)
      : ForwardingBackend(std::move(inner)), page_tokens_(page_tokens), steps_(steps) {}

  // Reading is nothing that a graph could hold.
  Status capture(const BucketKey& /*bucket*/, const std::function<void()>& /*body*/) override {
    return {};
  }
  Status run(const std::optional<BucketKey>& /*bucket*/,
             const std::function<void()>& body) override {
    return inner().run(std::nullopt, body);
  }
  void plan_attention(const PlanAttentionParams& p) override {
    look(p.batch);
    inner().plan_attention(p);
  }

 private:
  template <typename T>
  std::vector<T> read(const T* device, std::size_t count) {
    const auto staging =
        inner().allocate(MemoryKind::kStaging, count * sizeof(T), "watched").value();
    inner().copy_out(staging->data(), device, count * sizeof(T));
    EXPECT_TRUE(inner().wait(inner().record()).ok());
    const auto* values = static_cast<const T*>(staging->data());
    return {values, values + count};
  }

  void look(const BatchView& batch) {
    ASSERT_NE(batch.prefixes, nullptr);
    const auto count = static_cast<std::size_t>(batch.num_rows);
    const std::vector<RowView> rows = read(batch.rows, count);
    const std::vector<PrefixView> prefixes = read(batch.prefixes, count);
    const std::vector<std::int32_t> row_prefixes = read(batch.row_prefixes, count);
    std::vector<std::int32_t> innermost(count, -1);
    bool ended = false;
    for (std::size_t p = 0; p < count; ++p) {
      const PrefixView& prefix = prefixes[p];
      ended = ended || prefix.num_rows == 0;
      ASSERT_EQ(prefix.num_rows == 0, ended) << "prefix " << p << " behind an empty one";
      const auto first = static_cast<std::size_t>(prefix.first_row);
      for (std::size_t r = first; r < first + static_cast<std::size_t>(prefix.num_rows); ++r) {
        ASSERT_LT(r, count);
        ASSERT_EQ(rows[r].count, 1);
        ASSERT_LE(prefix.last_key, rows[r].start);
        ASSERT_EQ(innermost[r], prefix.parent);
        innermost[r] = static_cast<std::int32_t>(p);
        ASSERT_EQ(pages(batch, rows[r].slot, prefix.last_key),
                  pages(batch, rows[first].slot, prefix.last_key));
      }
    }
    ASSERT_EQ(row_prefixes, innermost);
    if (prefixes.front().num_rows > 0) ++steps_;
  }

  std::vector<std::int32_t> pages(const BatchView& batch, std::int32_t slot, std::int32_t keys) {
    return read(batch.page_table + static_cast<std::ptrdiff_t>(slot) * batch.max_pages,
                static_cast<std::size_t>(keys / page_tokens_));
  }

  const int page_tokens_;
  int& steps_;  // that had prefixes
};

std::vector<TokenId> random_tokens(std::mt19937_64& random, int count, int vocab) {
  std::vector<TokenId> tokens(static_cast<std::size_t>(count));
  for (TokenId& token : tokens) {
    token = static_cast<TokenId>(random() % static_cast<std::uint64_t>(vocab));
  }
  return tokens;
}

// A system prompt for all, a document for every second one, and something of their own.
void submit_family(EngineRig& rig, int system, int document, int new_tokens) {
  std::mt19937_64 random(kSeed);
  const int vocab = rig.config().vocab_size;
  const auto first = random_tokens(random, system, vocab);
  const auto second = random_tokens(random, document, vocab);
  for (int i = 0; i < kRequests; ++i) {
    auto prompt = first;
    if (i % 2 == 0) prompt.insert(prompt.end(), second.begin(), second.end());
    const auto own = random_tokens(random, 1 + i * 7, vocab);
    prompt.insert(prompt.end(), own.begin(), own.end());
    auto request =
        EngineRig::request(static_cast<std::uint64_t>(i) + 1, std::move(prompt), new_tokens);
    request->sampling.num_top_logprobs = 0;
    rig.submit(std::move(request));
  }
  rig.run_until_idle();
}

TEST(SharedPrefix, IsToldToTheDeviceAndChangesNoBitOfBatchInvariantText) {
  RigOptions options{.num_pages = 200,
                     .max_model_len = 320,
                     .max_num_seqs = kRequests,
                     .pipeline_depth = 2,
                     .batch_invariant = true,
                     .graph_buckets = graph_buckets(kRequests),
                     .record_logits = false};
  const auto model = test::source_directory() / "models/latent-mini";
  EngineRig plain(model, options);
  submit_family(plain, 48, 80, 20);

  int steps = 0;
  options.prefixes = {.max_depth = 3, .min_tokens = 16};
  EngineRig shared(model, options);
  submit_family(shared, 48, 80, 20);
  options.wrap = [&](std::unique_ptr<Backend> inner) {
    return std::make_unique<PrefixWatch>(std::move(inner), options.page_tokens, steps);
  };
  EngineRig watched(model, options);
  submit_family(watched, 48, 80, 20);

  EXPECT_GT(steps, 15);
  for (std::uint64_t id = 1; id <= kRequests; ++id) {
    SCOPED_TRACE(id);
    ASSERT_EQ(plain.outcome(id).tokens.size(), 20U);
    for (const EngineRig* rig : {&shared, &watched}) {
      EXPECT_EQ(plain.outcome(id).tokens, rig->outcome(id).tokens);
      EXPECT_EQ(plain.outcome(id).logprobs, rig->outcome(id).logprobs);
    }
  }
}

// A model of two layers with the attention of DeepSeek-V2-Lite.
std::filesystem::path write_config() {
  const auto directory = std::filesystem::path(::testing::TempDir()) / "shared_prefix_512_64";
  std::filesystem::create_directories(directory);
  std::ofstream(directory / "config.json") << R"({
    "architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2",
    "torch_dtype": "bfloat16", "vocab_size": 1024, "hidden_size": 512, "num_hidden_layers": 2,
    "num_attention_heads": 16, "num_key_value_heads": 16, "q_lora_rank": null,
    "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
    "intermediate_size": 1024, "moe_intermediate_size": 128, "n_routed_experts": null,
    "n_shared_experts": null, "first_k_dense_replace": 2, "moe_layer_freq": 1,
    "topk_method": "greedy", "scoring_func": "softmax", "norm_topk_prob": false,
    "routed_scaling_factor": 1.0, "hidden_act": "silu", "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0, "rope_scaling": null, "max_position_embeddings": 4096,
    "tie_word_embeddings": false, "attention_bias": false, "bos_token_id": 1, "eos_token_id": 2})";
  return directory;
}

// Where the device has a kernel that reads prefixes once. Texts may part where two tokens are as
// likely as rounding can tell; up to there the logits are the same but for it.
TEST(SharedPrefix, IsReadOnceWithTheSameLogitsButForRounding) {
  if (rig_device() != Device::kCuda) GTEST_SKIP() << "reads every sequence's keys by themselves";
  RigOptions options{.num_pages = 400,
                     .page_tokens = 64,
                     .max_model_len = 2048,
                     .max_num_seqs = kRequests,
                     .max_num_batched_tokens = 2048,
                     .pipeline_depth = 2,
                     .kv_cache_dtype = DType::kBF16,
                     .activation = DType::kBF16,
                     .random_weights = true};
  const std::filesystem::path model = write_config();
  EngineRig plain(model, options);
  submit_family(plain, 1024, 320, 70);
  options.prefixes = {.max_depth = 3, .min_tokens = 64};
  EngineRig shared(model, options);
  submit_family(shared, 1024, 320, 70);
  options.graph_buckets = graph_buckets(kRequests);
  options.record_logits = false;
  EngineRig replayed(model, options);
  submit_family(replayed, 1024, 320, 70);

  double worst = 0.0;
  int compared = 0;
  int parted = 0;
  bool differs = false;
  for (std::uint64_t id = 1; id <= kRequests; ++id) {
    SCOPED_TRACE(id);
    const std::vector<TokenId>& expected = plain.outcome(id).tokens;
    const std::vector<TokenId>& actual = shared.outcome(id).tokens;
    EXPECT_EQ(actual, replayed.outcome(id).tokens);
    ASSERT_EQ(expected.size(), 70U);
    const auto same = std::ranges::mismatch(expected, actual).in1 - expected.begin();
    if (same < std::ssize(expected)) ++parted;
    const auto known = shared.logits(id);
    std::ptrdiff_t index = 0;
    for (const auto& [position, logits] : plain.logits(id)) {
      if (index++ > same) break;  // of other tokens
      const std::vector<float>& other = known.at(position);
      float highest = 0.0F;
      float difference = 0.0F;
      for (std::size_t i = 0; i < logits.size(); ++i) {
        highest = std::max(highest, std::abs(logits[i]));
        difference = std::max(difference, std::abs(logits[i] - other[i]));
      }
      differs = differs || difference > 0.0F;
      worst = std::max(worst, static_cast<double>(difference / highest));
      ++compared;
    }
  }
  std::printf("%d positions, error %.2e, %d texts of %d part\n", compared, worst, parted,
              kRequests);
  EXPECT_LT(worst, 2e-2);
  EXPECT_GT(compared, kRequests * 20);
  EXPECT_TRUE(differs) << "nothing was read once";
}

}  // namespace
}  // namespace latentd

// The whole block of latent attention, from hidden state to hidden state and cache, against double
// precision: one sequence in pieces of every size up to and over what fused kernels take, and many
// sequences in one step.
//
// All sequences are the same stream of tokens, so one oracle answers for every row.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <utility>
#include <vector>

#include "engine/backend/geometry.h"
#include "engine/backend/mla_attention_block.h"
#include "engine/model/rope_tables.h"
#include "tests/conformance/device.h"
#include "tests/conformance/paged_cache.h"
#include "tests/support/mla_oracle.h"

namespace latentd::conformance {
namespace {

constexpr std::uint64_t kSeed = 20261130;
constexpr int kLength = 20;
constexpr int kSlots = 20;
constexpr int kMaxTokens = 32;

std::size_t size(int value) { return static_cast<std::size_t>(value); }

struct Shape {
  const char* name;
  int hidden, heads, q_lora, kv_lora, nope, rope, v;
  bool large = false;  // for quick backends only
};
constexpr Shape kLite{"lite", 2048, 16, 0, 512, 128, 64, 128, true};
constexpr Shape kCompressed{"compressed", 320, 5, 96, 64, 64, 32, 32};
constexpr Shape kWide{"wide", 4160, 2, 0, 128, 32, 16, 48, true};
constexpr Shape kOdd{"odd", 45, 3, 23, 21, 7, 6, 9};

ModelConfig config_of(const Shape& s) {
  ModelConfig config;
  config.num_heads = s.heads;
  config.hidden_size = s.hidden;
  config.q_lora_rank = s.q_lora;
  config.kv_lora_rank = s.kv_lora;
  config.qk_nope_head_dim = s.nope;
  config.qk_rope_head_dim = s.rope;
  config.v_head_dim = s.v;
  config.softmax_scale = 1.0F / std::sqrt(static_cast<float>(s.nope + s.rope));
  return config;
}

class Block {
 public:
  Block(const Case& test_case, const Shape& shape)
      : shape_(shape),
        dtype_(test_case.weights),
        config_(config_of(shape)),
        random_(kSeed),
        device_(*test_case.backend),
        cache_(device_, random_, mla_geometry(config_), test_case.cache,
               std::vector<int>(kSlots, kLength)) {
    fill_weights();
    for (int t = 0; t < kLength; ++t) inputs_.push_back(random_values(random_, size(shape.hidden)));
    for (const auto& input : inputs_) expected_.push_back(device_.as_seen(input));
    oracle::add_latent_attention(config_, host_, expected_, test_case.cache);
  }

  // The rows of one step; every token is checked.
  void step(const std::vector<StepRow>& rows) {
    std::vector<float> hidden;
    std::vector<std::pair<int, int>> tokens;  // slot, position
    for (const StepRow& row : rows) {
      for (int i = 0; i < row.count; ++i) {
        const auto& input = inputs_[size(row.start + i)];
        hidden.insert(hidden.end(), input.begin(), input.end());
        tokens.emplace_back(row.slot, row.start + i);
      }
    }
    void* state = device_.activations(hidden);
    MlaBlockParams p;
    p.batch = make_batch(device_, cache_, rows);
    p.cache = cache_.view();
    p.geometry = mla_geometry(config_);
    p.weights = &weights_;
    p.rope_cos = cosines_;
    p.rope_sin = sines_;
    p.hidden = state;
    p.scratch = scratch_;
    p.absorbed_rows = p.batch.num_rows;
    p.absorbed_tokens = p.batch.num_tokens;
    device_->mla_block(p);
    const auto actual = to_double(device_.read_activations(state, hidden.size()));
    for (std::size_t t = 0; t < tokens.size(); ++t) {
      const auto [slot, position] = tokens[t];
      const auto one = std::span(actual).subspan(t * size(shape_.hidden), size(shape_.hidden));
      double error = oracle::relative_error(one, expected_[size(position)]);
      if (error >= device_.tolerance() && cache_.layout().dtype() != DType::kF32) {
        error = oracle::relative_error(one, from_cache(slot, position));
      }
      EXPECT_LT(error, device_.tolerance())
          << "token " << t << " of " << tokens.size() << ", position " << position;
    }
  }

 private:
  // Near a tie the device may round a latent the other way than the oracle, and every later token
  // sees it. Then what is cached is held to the oracle by half a unit, and the token to the cache.
  oracle::Vector from_cache(int slot, int position) {
    const auto eps = static_cast<double>(config_.rms_norm_eps);
    oracle::Vector latents;
    oracle::Vector x;
    for (int t = 0; t <= position; ++t) {
      x = oracle::rms_norm(device_.as_seen(inputs_[size(t)]), host_.input_norm, eps);
      const auto held = cache_.device_row(slot, t);
      EXPECT_LT(oracle::relative_error(held, oracle::latent_row(config_, host_, x, t)),
                rounding_of(cache_.layout().dtype(), 0.0) + device_.tolerance())
          << "slot " << slot << ", position " << t;
      latents.insert(latents.end(), held.begin(), held.end());
    }
    const auto query = oracle::query_row(config_, host_, x, position);
    const auto added = oracle::matvec(
        host_.o, oracle::attention(oracle::attention_shape(config_), query, latents, host_.kv_b));
    oracle::Vector result = device_.as_seen(inputs_[size(position)]);
    std::ranges::transform(result, added, result.begin(), std::plus<>());
    return result;
  }

  TensorView matrix(TensorView& host, std::initializer_list<std::int64_t> shape) {
    std::int64_t count = 1;
    for (const std::int64_t extent : shape) count *= extent;
    const float scale = 1.5F / std::sqrt(static_cast<float>(*(shape.end() - 1)));
    const Tensor tensor = device_.tensor(
        random_values(random_, static_cast<std::size_t>(count), scale), dtype_, shape);
    host = tensor.host;
    return tensor.device;
  }
  TensorView norm(TensorView& host, int n) {
    auto values = random_values(random_, size(n), 0.5F);
    for (float& value : values) value += 1.0F;
    const Tensor tensor = device_.tensor(values, dtype_, {n});
    host = tensor.host;
    return tensor.device;
  }

  void fill_weights() {
    const Shape& s = shape_;
    const int q_outputs = s.heads * (s.nope + s.rope);
    weights_.input_norm = norm(host_.input_norm, s.hidden);
    if (s.q_lora == 0) {
      weights_.q = matrix(host_.q, {q_outputs, s.hidden});
    } else {
      weights_.q_a = matrix(host_.q_a, {s.q_lora, s.hidden});
      weights_.q_a_norm = norm(host_.q_a_norm, s.q_lora);
      weights_.q_b = matrix(host_.q_b, {q_outputs, s.q_lora});
    }
    weights_.kv_a = matrix(host_.kv_a, {s.kv_lora + s.rope, s.hidden});
    weights_.kv_a_norm = norm(host_.kv_a_norm, s.kv_lora);
    weights_.kv_b = matrix(host_.kv_b, {s.heads, s.nope + s.v, s.kv_lora});
    weights_.o = matrix(host_.o, {s.hidden, s.heads * s.v});
    const RopeTables tables = make_rope_tables(config_.rope, s.rope, kLength);
    cosines_ = device_.array(tables.cos);
    sines_ = device_.array(tables.sin);
    const auto tokens = [&](int width) {
      return device_.empty_activations(size(kMaxTokens * width));
    };
    scratch_ = {tokens(s.hidden),
                tokens(s.q_lora + 1),
                tokens(q_outputs),
                tokens(s.kv_lora + s.rope),
                tokens(s.heads * (s.kv_lora + s.rope)),
                tokens(s.heads * s.kv_lora),
                tokens(s.heads * s.v)};
  }

  Shape shape_;
  DType dtype_;
  ModelConfig config_;
  std::mt19937_64 random_;
  Device device_;
  PagedCache cache_;
  MlaWeights host_;
  MlaWeights weights_;
  float* cosines_ = nullptr;
  float* sines_ = nullptr;
  MlaScratch scratch_;
  std::vector<std::vector<float>> inputs_;
  std::vector<oracle::Vector> expected_;
};

class AttentionBlock : public ::testing::TestWithParam<std::tuple<Case, Shape>> {
 protected:
  void SetUp() override {
    const auto& [test_case, shape] = GetParam();
    if (shape.large && !test_case.backend->large) GTEST_SKIP() << "too large for this backend";
  }
  Block make() { return Block(std::get<0>(GetParam()), std::get<1>(GetParam())); }
};

TEST_P(AttentionBlock, OfOneSequenceInPieces) {
  Block block = make();
  int slot = 0;
  for (const std::vector<int>& pieces :
       {std::vector<int>{1, 1, 8, 7, 2, 1}, {16, 1, 3}, {17, 3}, {9, 9, 2}}) {
    int start = 0;
    for (const int count : pieces) {
      SCOPED_TRACE(count);
      block.step({{slot, start, count}});
      start += count;
    }
    ++slot;
  }
}

TEST_P(AttentionBlock, OfManySequencesInOneStep) {
  Block block = make();
  for (int slot = 0; slot < kSlots; slot += 2) {
    block.step({{slot, 0, slot + 1}, {slot + 1, 0, (slot * 5 + 3) % 9 + 1}});
  }
  for (const int rows : {2, 7, 8, 15, 16, 17}) {
    SCOPED_TRACE(rows);
    std::vector<StepRow> step;
    // Slots that end where the stream does are written again: the cache then holds the same.
    for (int slot = rows - 1; slot >= 0; --slot) {
      const int held = slot % 2 == 0 ? slot + 1 : ((slot - 1) * 5 + 3) % 9 + 1;
      step.push_back({slot, std::min(held, kLength - 1), 1});
    }
    block.step(step);
  }
}

std::string test_name(const ::testing::TestParamInfo<std::tuple<Case, Shape>>& test) {
  return case_name(std::get<0>(test.param)) + "_" + std::get<1>(test.param).name;
}

INSTANTIATE_TEST_SUITE_P(Conformance, AttentionBlock,
                         ::testing::Combine(::testing::ValuesIn(all_cases()),
                                            ::testing::Values(kLite, kCompressed, kWide, kOdd)),
                         test_name);

}  // namespace
}  // namespace latentd::conformance

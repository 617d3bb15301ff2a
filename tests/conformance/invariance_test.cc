// DESIGN rule 4: a row's bits do not depend on what shares its step, on how its prompt is cut, or
// on the number of threads. Compared are bits, through whole layers: attention and experts.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>
#include <vector>

#include "engine/backend/mla_attention_block.h"
#include "tests/conformance/device.h"
#include "tests/conformance/paged_cache.h"

namespace latentd::conformance {
namespace {

constexpr std::uint64_t kSeed = 20261128;

std::size_t size(int value) { return static_cast<std::size_t>(value); }

struct Shape {
  const char* name;
  int hidden, heads, q_lora, kv_lora, rope, nope, v, experts, top_k, inner, shared_inner;
  bool expanded = false;  // the form of attention
};

// Even sizes, and sizes that leave a tail in every kernel.
constexpr Shape kEven{"even", 64, 4, 0, 64, 16, 32, 32, 8, 2, 32, 64};
constexpr Shape kExpanded{"expanded", 64, 4, 0, 64, 16, 32, 32, 8, 2, 32, 64, true};
// Widths and expert counts for which every kernel for many and few tokens is chosen.
constexpr Shape kWide{"wide", 256, 4, 0, 64, 16, 32, 32, 8, 4, 128, 256};
constexpr Shape kOdd{"odd", 45, 3, 23, 21, 6, 7, 9, 5, 3, 11, 13};

// The hidden state of a sequence's token: a function of the sequence and the position.
std::vector<float> input(int sequence, int position, int hidden) {
  std::mt19937_64 random(kSeed + static_cast<std::uint64_t>(sequence * 100003 + position));
  return random_values(random, size(hidden));
}

struct SequenceRow {
  int sequence;
  int start;
  int count;
};

// One layer on a device, its cache, and the outputs by (sequence, position).
class Layer {
 public:
  static constexpr int kMaxTokens = 320;
  static constexpr int kSequences = 17;
  static constexpr int kLength = 300;

  Layer(const Case& test_case, const Shape& shape, int threads)
      : shape_(shape),
        weights_dtype_(test_case.weights),
        random_(kSeed),
        device_(*test_case.backend, threads),
        cache_(device_, random_, geometry(shape), test_case.cache,
               std::vector<int>(kSequences, kLength)) {
    fill_weights();
    allocate_scratch();
  }

  void step(const std::vector<SequenceRow>& rows) {
    std::vector<StepRow> step_rows;
    std::vector<float> hidden;
    for (const SequenceRow& row : rows) {
      step_rows.push_back({row.sequence, row.start, row.count});
      for (int i = 0; i < row.count; ++i) {
        const auto values = input(row.sequence, row.start + i, shape_.hidden);
        hidden.insert(hidden.end(), values.begin(), values.end());
      }
    }
    const BatchView batch = make_batch(device_, cache_, step_rows);
    void* state = device_.activations(hidden);
    MlaBlockParams attention;
    attention.batch = batch;
    attention.cache = cache_.view();
    attention.geometry = geometry(shape_);
    attention.weights = &layer_.mla;
    attention.rope_cos = cosine_;
    attention.rope_sin = sine_;
    attention.hidden = state;
    attention.scratch = attention_scratch_;
    attention.absorbed_rows = shape_.expanded ? 0 : batch.num_rows;
    attention.absorbed_tokens = shape_.expanded ? 0 : batch.num_tokens;
    device_->mla_block(attention);
    FfnBlockParams ffn;
    ffn.num_tokens = batch.num_tokens;
    ffn.hidden_size = shape_.hidden;
    ffn.norm_eps = 1e-6F;
    ffn.weights = &layer_;
    ffn.routing.num_experts = shape_.experts;
    ffn.routing.experts_per_token = shape_.top_k;
    ffn.hidden = state;
    ffn.scratch = ffn_scratch_;
    device_->ffn_block(ffn);

    const auto out = device_.read_activations(state, hidden.size());
    auto next = out.begin();
    for (const SequenceRow& row : rows) {
      for (int i = 0; i < row.count; ++i, next += shape_.hidden) {
        outputs_[{row.sequence, row.start + i}].assign(next, next + shape_.hidden);
      }
    }
  }

  const std::vector<float>& output(int sequence, int position) const {
    return outputs_.at({sequence, position});
  }

 private:
  static MlaGeometry geometry(const Shape& s) {
    MlaGeometry g;
    g.num_heads = s.heads;
    g.q_lora_rank = s.q_lora;
    g.kv_lora_rank = s.kv_lora;
    g.nope_dim = s.nope;
    g.rope_dim = s.rope;
    g.v_dim = s.v;
    g.hidden_size = s.hidden;
    g.softmax_scale = 1.0F / std::sqrt(static_cast<float>(s.nope + s.rope));
    g.norm_eps = 1e-6F;
    return g;
  }

  TensorView matrix(int outputs, int inputs) {
    const float scale = 1.5F / std::sqrt(static_cast<float>(inputs));
    return device_
        .tensor(random_values(random_, size(outputs * inputs), scale), weights_dtype_,
                {outputs, inputs})
        .device;
  }
  TensorView vector(int n) {
    return device_.tensor(std::vector<float>(size(n), 1.25F), weights_dtype_, {n}).device;
  }

  void fill_weights() {
    const Shape& s = shape_;
    MlaWeights& a = layer_.mla;
    a.input_norm = vector(s.hidden);
    const int q_outputs = s.heads * (s.nope + s.rope);
    if (s.q_lora == 0) {
      a.q = matrix(q_outputs, s.hidden);
    } else {
      a.q_a = matrix(s.q_lora, s.hidden);
      a.q_a_norm = vector(s.q_lora);
      a.q_b = matrix(q_outputs, s.q_lora);
    }
    a.kv_a = matrix(s.kv_lora + s.rope, s.hidden);
    a.kv_a_norm = vector(s.kv_lora);
    a.kv_b = matrix(s.heads * (s.nope + s.v), s.kv_lora);
    a.o = matrix(s.hidden, s.heads * s.v);
    layer_.post_attention_norm = vector(s.hidden);
    layer_.moe.router = matrix(s.experts, s.hidden);
    const auto mlp = [&](int inner) {
      return MlpWeights{matrix(inner, s.hidden), matrix(inner, s.hidden), matrix(s.hidden, inner)};
    };
    for (int e = 0; e < s.experts; ++e) layer_.moe.experts.push_back(mlp(s.inner));
    layer_.moe.shared = mlp(s.shared_inner);
    const auto angles = [&](float (*f)(float)) {
      std::vector<float> table;
      for (int i = 0; i < kLength * s.rope / 2; ++i) table.push_back(f(static_cast<float>(i)));
      return device_.array(table);
    };
    cosine_ = angles(std::cos);
    sine_ = angles(std::sin);
  }

  void allocate_scratch() {
    const Shape& s = shape_;
    const auto tokens = [&](int width) {
      return device_.empty_activations(size(kMaxTokens * width));
    };
    attention_scratch_ = {tokens(s.hidden),
                          tokens(s.q_lora + 1),
                          tokens(s.heads * (s.nope + s.rope)),
                          tokens(s.kv_lora + s.rope),
                          tokens(s.heads * (s.kv_lora + s.rope)),
                          tokens(s.heads * s.kv_lora),
                          tokens(s.heads * s.v)};
    ffn_scratch_.normed = tokens(s.hidden);
    ffn_scratch_.gate_up = tokens(2 * (s.top_k * s.inner + s.shared_inner));
    ffn_scratch_.router_logits = device_.array(std::vector<float>(size(kMaxTokens * s.experts)));
    ffn_scratch_.expert_ids = device_.array(std::vector<std::int32_t>(size(kMaxTokens * s.top_k)));
    ffn_scratch_.expert_weights = device_.array(std::vector<float>(size(kMaxTokens * s.top_k)));
  }

  Shape shape_;
  DType weights_dtype_;
  std::mt19937_64 random_;
  Device device_;
  PagedCache cache_;
  LayerWeights layer_;
  float* cosine_ = nullptr;
  float* sine_ = nullptr;
  MlaScratch attention_scratch_;
  FfnScratch ffn_scratch_;
  std::map<std::pair<int, int>, std::vector<float>> outputs_;
};

// Prompts `sequence` in chunks and then decodes to `length`, alone in every step.
void run_alone(Layer& layer, int sequence, int prompt, int chunk, int length) {
  for (int start = 0; start < prompt; start += chunk) {
    layer.step({{sequence, start, std::min(chunk, prompt - start)}});
  }
  for (int position = prompt; position < length; ++position) layer.step({{sequence, position, 1}});
}

void expect_same_bits(const Layer& expected, const Layer& actual, int sequence, int length) {
  for (int position = 0; position < length; ++position) {
    ASSERT_EQ(expected.output(sequence, position), actual.output(sequence, position))
        << "sequence " << sequence << " position " << position;
  }
}

class Invariance : public ::testing::TestWithParam<std::tuple<Case, Shape>> {
 protected:
  void SetUp() override {
    if (!std::get<0>(GetParam()).backend->batch_invariant) GTEST_SKIP() << "no such promise";
  }
  Layer make_layer(int threads = 2) {
    return Layer(std::get<0>(GetParam()), std::get<1>(GetParam()), threads);
  }
};

TEST_P(Invariance, ARowHasTheSameBitsAloneAndAmongSixteen) {
  constexpr int kPrompt = 70;
  constexpr int kEnd = 80;
  Layer alone = make_layer();
  run_alone(alone, 3, kPrompt, kPrompt, kEnd);

  Layer batch = make_layer();
  std::vector<SequenceRow> prompts = {{3, 0, kPrompt}};
  for (int s = 0; s < 16; ++s) {
    if (s != 3) prompts.push_back({s, 0, 1 + s});
  }
  batch.step(prompts);
  for (int i = 0; i < kEnd - kPrompt; ++i) {
    std::vector<SequenceRow> rows;
    for (int s = 0; s < 16; ++s) {
      // Neighbours decode, prefill and leave, on either side of the row.
      if (s == 3) {
        rows.push_back({3, kPrompt + i, 1});
      } else if ((s + i) % 5 != 0) {
        rows.push_back({s, 0, 1 + (s * 7 + i * 3) % 17});
      }
    }
    batch.step(rows);
  }
  expect_same_bits(alone, batch, 3, kEnd);
}

TEST_P(Invariance, APromptHasTheSameBitsHoweverItIsCut) {
  constexpr int kPrompt = 150;
  Layer whole = make_layer();
  run_alone(whole, 0, kPrompt, kPrompt, kPrompt);
  for (const int chunk : {1, 7, 64}) {
    SCOPED_TRACE(chunk);
    Layer cut = make_layer();
    run_alone(cut, 0, kPrompt, chunk, kPrompt);
    expect_same_bits(whole, cut, 0, kPrompt);
  }
}

TEST_P(Invariance, BitsDoNotDependOnTheNumberOfThreads) {
  constexpr int kLength = 75;
  Layer one = make_layer(1);
  run_alone(one, 0, 70, 70, kLength);
  for (const int threads : {2, 3}) {
    SCOPED_TRACE(threads);
    Layer more = make_layer(threads);
    run_alone(more, 0, 70, 70, kLength);
    expect_same_bits(one, more, 0, kLength);
  }
}

std::string test_name(const ::testing::TestParamInfo<std::tuple<Case, Shape>>& test) {
  return case_name(std::get<0>(test.param)) + "_" + std::get<1>(test.param).name;
}

INSTANTIATE_TEST_SUITE_P(Conformance, Invariance,
                         ::testing::Combine(::testing::ValuesIn(all_cases()),
                                            ::testing::Values(kEven, kOdd, kExpanded, kWide)),
                         test_name);

class LinearInvariance : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (!GetParam().backend->batch_invariant) GTEST_SKIP() << "no such promise";
  }
};

TEST_P(LinearInvariance, EveryRowOfAProductHasTheBitsOfTheRowAlone) {
  std::mt19937_64 random(kSeed);
  Device device(*GetParam().backend);
  for (const int inputs : {64, 77, 1408}) {
    constexpr int kOutputs = 13;
    const auto weight = device.tensor(random_values(random, size(kOutputs * inputs)),
                                      GetParam().weights, {kOutputs, inputs});
    for (const int rows : {2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 100, 512}) {
      const auto x = random_values(random, size(rows * inputs));
      void* out = device.empty_activations(size(rows * kOutputs));
      device->linear({device.activations(x), weight.device, out, rows});
      const auto together = device.read_activations(out, size(rows * kOutputs));
      for (const int row : {0, 1, rows / 2, rows - 1}) {
        const auto one = std::span(x).subspan(size(row * inputs), size(inputs));
        void* single = device.empty_activations(kOutputs);
        device->linear({device.activations(one), weight.device, single, 1});
        const auto begin = together.begin() + row * kOutputs;
        ASSERT_EQ(device.read_activations(single, kOutputs),
                  std::vector<float>(begin, begin + kOutputs))
            << "row " << row << " of " << rows;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Conformance, LinearInvariance, ::testing::ValuesIn(all_cases()),
                         [](const auto& test) { return case_name(test.param); });

}  // namespace
}  // namespace latentd::conformance

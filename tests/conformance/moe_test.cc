// route and experts against double precision.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <set>
#include <span>
#include <vector>

#include "tests/conformance/device.h"
#include "tests/support/mla_oracle.h"

namespace latentd::conformance {
namespace {

constexpr std::uint64_t kSeed = 20261126;

std::size_t size(int value) { return static_cast<std::size_t>(value); }

struct Gate {
  const char* name;
  MoeConfig config;
};

MoeConfig gate_config(int experts, int top_k, int groups, int kept, GateScoring scoring,
                      ExpertSelection selection, bool normalize, float scale) {
  MoeConfig config;
  config.num_experts = experts;
  config.experts_per_token = top_k;
  config.num_groups = groups;
  config.groups_per_token = kept;
  config.scoring = scoring;
  config.selection = selection;
  config.normalize_weights = normalize;
  config.weight_scale = scale;
  config.correction_bias = scoring == GateScoring::kSigmoid;
  return config;
}

std::vector<Gate> gates() {
  using enum ExpertSelection;
  constexpr auto kSoftmax = GateScoring::kSoftmax;
  constexpr auto kSigmoid = GateScoring::kSigmoid;
  return {
      {"V2-Lite", gate_config(64, 6, 1, 1, kSoftmax, kGreedy, false, 1.0F)},
      {"V2", gate_config(160, 6, 8, 3, kSoftmax, kGroupLimitedMax, false, 16.0F)},
      {"V3", gate_config(256, 8, 8, 4, kSigmoid, kGroupLimitedTop2, true, 2.5F)},
      {"Kimi-K2", gate_config(384, 8, 1, 1, kSigmoid, kGroupLimitedTop2, true, 2.827F)},
      {"small", gate_config(6, 2, 3, 1, kSigmoid, kGroupLimitedTop2, true, 1.0F)},
  };
}

RoutingParams routing_params(const MoeConfig& c) {
  RoutingParams r;
  r.num_experts = c.num_experts;
  r.experts_per_token = c.experts_per_token;
  r.num_groups = c.selection == ExpertSelection::kGreedy ? 1 : c.num_groups;
  r.groups_per_token = c.selection == ExpertSelection::kGreedy ? 1 : c.groups_per_token;
  r.sigmoid = c.scoring == GateScoring::kSigmoid;
  r.group_score_top2 = c.selection == ExpertSelection::kGroupLimitedTop2;
  r.normalize = c.normalize_weights;
  r.weight_scale = c.weight_scale;
  return r;
}

struct Routed {
  std::vector<std::int32_t> ids;
  std::vector<float> weights;
};

Routed run_route(Device& device, const MoeConfig& config, std::span<const float> logits,
                 const TensorView& bias) {
  const std::size_t tokens = logits.size() / size(config.num_experts);
  const std::size_t entries = tokens * size(config.experts_per_token);
  auto* ids = device.array(std::vector<std::int32_t>(entries, -1));
  auto* weights = device.array(std::vector<float>(entries));
  device->route({routing_params(config), device.array(logits), bias, ids, weights,
                 static_cast<std::int32_t>(tokens)});
  return {device.read(ids, entries), device.read(weights, entries)};
}

class MoeOps : public ::testing::TestWithParam<Case> {
 protected:
  std::mt19937_64 random_{kSeed};
};

TEST_P(MoeOps, RouteAgreesWithDoublePrecisionForEveryGate) {
  Device device(*GetParam().backend);
  constexpr int kTokens = 50;
  for (const auto& [name, config] : gates()) {
    SCOPED_TRACE(name);
    const std::size_t n = size(config.num_experts);
    const auto logits = random_values(random_, kTokens * n, 3.0F);
    const auto bias_values = random_values(random_, n, 0.5F);
    const Tensor bias = config.correction_bias
                            ? device.tensor(bias_values, DType::kF32, {config.num_experts})
                            : Tensor{};
    const Routed routed = run_route(device, config, logits, bias.device);
    const auto wide = to_double(logits);
    const auto wide_bias = config.correction_bias ? to_double(bias_values) : std::vector<double>{};
    const std::size_t k = size(config.experts_per_token);
    for (std::size_t t = 0; t < kTokens; ++t) {
      const auto expected = oracle::route(std::span(wide).subspan(t * n, n), wide_bias, config);
      for (std::size_t i = 0; i < k; ++i) {
        EXPECT_EQ(routed.ids[t * k + i], expected.experts[i]) << "token " << t;
        EXPECT_NEAR(static_cast<double>(routed.weights[t * k + i]), expected.weights[i],
                    1e-5 * static_cast<double>(config.weight_scale));
      }
    }
  }
}

TEST_P(MoeOps, RouteBreaksTiesTowardsTheLowerIndex) {
  Device device(*GetParam().backend);
  for (const auto& [name, config] : gates()) {
    SCOPED_TRACE(name);
    const std::vector<float> logits(size(config.num_experts), 0.25F);
    const std::vector<float> zeros(size(config.num_experts), 0.0F);
    const Tensor bias = device.tensor(zeros, DType::kF32, {config.num_experts});
    const Routed routed =
        run_route(device, config, logits, config.correction_bias ? bias.device : TensorView{});
    std::vector<std::int32_t> expected(size(config.experts_per_token));
    std::iota(expected.begin(), expected.end(), 0);
    EXPECT_EQ(routed.ids, expected);
  }
}

TEST_P(MoeOps, CorrectionBiasTakesPartInTheSelectionOnly) {
  Device device(*GetParam().backend);
  const MoeConfig config = gate_config(4, 1, 1, 1, GateScoring::kSigmoid,
                                       ExpertSelection::kGroupLimitedTop2, false, 1.0F);
  const std::vector<float> logits = {2.0F, 0.0F, 1.0F, -1.0F};
  const std::vector<float> values = {0.0F, 9.0F, 0.0F, 0.0F};
  const Tensor bias = device.tensor(values, DType::kF32, {4});
  const Routed routed = run_route(device, config, logits, bias.device);
  EXPECT_EQ(routed.ids, std::vector<std::int32_t>{1});
  EXPECT_FLOAT_EQ(routed.weights[0], 0.5F);
}

TEST_P(MoeOps, ExpertsAddTheirWeightedSumAndTheSharedExpert) {
  Device device(*GetParam().backend);
  constexpr int kHidden = 40;
  constexpr int kInner = 52;
  constexpr int kExperts = 7;
  constexpr int kTopK = 3;
  for (const int shared_inner : {0, 70}) {
    MoeWeights on_device;
    MoeWeights on_host;
    const auto add = [&](int inner, MlpWeights& device_mlp, MlpWeights& host_mlp) {
      const auto count = size(inner * kHidden);
      const auto make = [&](int outputs, int inputs) {
        return device.tensor(random_values(random_, count, 0.4F), GetParam().weights,
                             {outputs, inputs});
      };
      const Tensor gate = make(inner, kHidden);
      const Tensor up = make(inner, kHidden);
      const Tensor down = make(kHidden, inner);
      device_mlp = {gate.device, up.device, down.device};
      host_mlp = {gate.host, up.host, down.host};
    };
    on_device.experts.resize(kExperts);
    on_host.experts.resize(kExperts);
    for (std::size_t e = 0; e < kExperts; ++e) {
      add(kInner, on_device.experts[e], on_host.experts[e]);
    }
    if (shared_inner > 0) add(shared_inner, on_device.shared, on_host.shared);

    for (const int tokens : {1, 2, 3, 150}) {
      SCOPED_TRACE(::testing::Message() << tokens << " tokens, shared " << shared_inner);
      const auto x = random_values(random_, size(tokens * kHidden));
      const auto before = random_values(random_, size(tokens * kHidden));
      std::vector<std::int32_t> ids;
      for (int t = 0; t < tokens; ++t) {
        // Expert 5 is never chosen: an expert without tokens is skipped.
        std::vector<std::int32_t> order = {0, 1, 2, 3, 4, 6};
        std::shuffle(order.begin(), order.end(), random_);
        std::sort(order.begin(), order.begin() + kTopK);
        ids.insert(ids.end(), order.begin(), order.begin() + kTopK);
      }
      const auto weights = random_values(random_, ids.size());
      void* hidden = device.activations(before);
      void* scratch = device.empty_activations(size(tokens * 2 * (kTopK * kInner + shared_inner)));
      device->experts({device.activations(x), &on_device, device.array(ids), device.array(weights),
                       hidden, scratch, tokens, kHidden, kExperts, kTopK});
      const auto actual = to_double(device.read_activations(hidden, before.size()));

      const auto seen = device.as_seen(x);
      auto expected = device.as_seen(before);
      for (std::size_t t = 0; t < size(tokens); ++t) {
        const auto row = std::span(seen).subspan(t * kHidden, kHidden);
        const auto accumulate = [&](const MlpWeights& mlp, double weight) {
          const auto out = oracle::mlp(mlp, row);
          for (std::size_t i = 0; i < kHidden; ++i) expected[t * kHidden + i] += weight * out[i];
        };
        for (std::size_t i = t * kTopK; i < (t + 1) * kTopK; ++i) {
          accumulate(on_host.experts[size(ids[i])], static_cast<double>(weights[i]));
        }
        if (shared_inner > 0) accumulate(on_host.shared, 1.0);
      }
      EXPECT_LT(oracle::relative_error(actual, expected), device.tolerance());
    }
  }
}

// A model's widths with few weights: matrix i of a kind begins 8 i elements into one tensor, so
// that experts differ, and a few random values serve them all.
struct WideExperts {
  int hidden, inner, experts, top_k, shared;

  std::vector<MlpWeights> host = {};
  MlpWeights host_shared = {};
  MoeWeights on_device = {};

  void fill(Device& device, std::mt19937_64& random, DType dtype) {
    const auto make = [&](int outputs, int inputs, int copies) {
      const float scale = 1.7F / std::sqrt(static_cast<float>(inputs));
      return device.tensor(random_values(random, size(outputs * inputs + 8 * copies), scale), dtype,
                           {outputs * inputs + 8 * copies});
    };
    const Tensor gate = make(inner, hidden, experts);
    const Tensor up = make(inner, hidden, experts);
    const Tensor down = make(hidden, inner, experts);
    for (int e = 0; e < experts; ++e) {
      host.push_back({part(gate.host, 8 * e, inner, hidden), part(up.host, 8 * e, inner, hidden),
                      part(down.host, 8 * e, hidden, inner)});
      on_device.experts.push_back({part(gate.device, 8 * e, inner, hidden),
                                   part(up.device, 8 * e, inner, hidden),
                                   part(down.device, 8 * e, hidden, inner)});
    }
    if (shared == 0) return;
    const Tensor shared_gate = make(shared * inner, hidden, 0);
    const Tensor shared_up = make(shared * inner, hidden, 0);
    const Tensor shared_down = make(hidden, shared * inner, 0);
    host_shared = {part(shared_gate.host, 0, shared * inner, hidden),
                   part(shared_up.host, 0, shared * inner, hidden),
                   part(shared_down.host, 0, hidden, shared * inner)};
    on_device.shared = {part(shared_gate.device, 0, shared * inner, hidden),
                        part(shared_up.device, 0, shared * inner, hidden),
                        part(shared_down.device, 0, hidden, shared * inner)};
  }

  static TensorView part(const TensorView& all, int first, int outputs, int inputs) {
    const auto* data =
        static_cast<const std::byte*>(all.data) + size(first) * dtype_size(all.dtype);
    return make_tensor_view(data, all.dtype, {outputs, inputs});
  }
};

// hidden after `experts`, and what it should be for some of the tokens.
void expect_experts(Device& device, WideExperts& w, std::mt19937_64& random, int tokens,
                    const std::vector<std::int32_t>& ids) {
  const auto x = random_values(random, size(tokens * w.hidden));
  const auto before = random_values(random, size(tokens * w.hidden));
  const auto weights = random_values(random, ids.size());
  void* hidden = device.activations(before);
  void* scratch = device.empty_activations(size(tokens) * 2 * size((w.top_k + w.shared) * w.inner));
  device->experts({device.activations(x), &w.on_device, device.array(ids), device.array(weights),
                   hidden, scratch, tokens, w.hidden, w.experts, w.top_k});
  const auto actual = to_double(device.read_activations(hidden, before.size()));
  const auto seen = device.as_seen(x);
  const auto first = device.as_seen(before);
  for (const int t : std::set<int>{0, tokens / 2, tokens - 1}) {
    const auto row = std::span(seen).subspan(size(t * w.hidden), size(w.hidden));
    std::vector<double> expected(first.begin() + t * w.hidden, first.begin() + (t + 1) * w.hidden);
    const auto add = [&](const MlpWeights& mlp, double weight) {
      const auto out = oracle::mlp(mlp, row);
      for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += weight * out[i];
    };
    for (int k = 0; k < w.top_k; ++k) {
      const std::size_t entry = size(t * w.top_k + k);
      add(w.host[size(ids[entry])], static_cast<double>(weights[entry]));
    }
    if (w.shared > 0) add(w.host_shared, 1.0);
    EXPECT_LT(oracle::relative_error(std::span(actual).subspan(size(t * w.hidden), size(w.hidden)),
                                     expected),
              device.tolerance())
        << "token " << t;
  }
}

std::vector<std::int32_t> random_choice(std::mt19937_64& random, int tokens, int experts,
                                        int top_k) {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> order(size(experts));
  std::iota(order.begin(), order.end(), 0);
  for (int t = 0; t < tokens; ++t) {
    std::shuffle(order.begin(), order.end(), random);
    std::sort(order.begin(), order.begin() + top_k);
    ids.insert(ids.end(), order.begin(), order.begin() + top_k);
  }
  return ids;
}

TEST_P(MoeOps, ExpertsOfAModelsWidthsAgreeForEveryNumberOfTokens) {
  Device device(*GetParam().backend);
  const bool small = device->name() == "cpu";
  // Matrices of bf16 weights begin at multiples of 16 bytes and take the wide kernels.
  WideExperts lite = small ? WideExperts{96, 40, 16, 6, 2} : WideExperts{2048, 1408, 64, 6, 2};
  lite.fill(device, random_, GetParam().weights);
  for (const int tokens : {1, 2, 8, 9, 33, 128, 1000}) {
    SCOPED_TRACE(::testing::Message() << tokens << " tokens");
    expect_experts(device, lite, random_, tokens,
                   random_choice(random_, tokens, lite.experts, lite.top_k));
  }
}

TEST_P(MoeOps, ExpertsMayAllBeTheSameOrUnchosen) {
  Device device(*GetParam().backend);
  WideExperts few{64, 24, 9, 3, 1};
  few.fill(device, random_, GetParam().weights);
  for (const int tokens : {1, 5, 70, 300}) {
    SCOPED_TRACE(::testing::Message() << tokens << " tokens");
    std::vector<std::int32_t> ids;
    for (int t = 0; t < tokens; ++t) ids.insert(ids.end(), {1, 4, 8});
    expect_experts(device, few, random_, tokens, ids);
  }
}

// Tiles of every width and kernel: what is computed beside a token leaves its bits alone.
TEST_P(MoeOps, ATokenAmongManyHasTheBitsOfTheTokenAlone) {
  if (!GetParam().backend->batch_invariant) GTEST_SKIP() << "no such promise";
  Device device(*GetParam().backend);
  WideExperts w{256, 136, 8, 4, 2};
  w.fill(device, random_, GetParam().weights);
  const auto run = [&](std::span<const float> x, std::span<const std::int32_t> ids,
                       std::span<const float> weights) {
    const int tokens = static_cast<int>(x.size()) / w.hidden;
    void* hidden = device.activations(x);
    void* scratch =
        device.empty_activations(size(tokens) * 2 * size((w.top_k + w.shared) * w.inner));
    device->experts({device.activations(x), &w.on_device, device.array(ids), device.array(weights),
                     hidden, scratch, tokens, w.hidden, w.experts, w.top_k});
    return device.read_activations(hidden, x.size());
  };
  for (const int tokens : {3, 9, 25, 60, 97, 150, 170, 410, 700}) {
    const auto x = random_values(random_, size(tokens * w.hidden));
    const auto ids = random_choice(random_, tokens, w.experts, w.top_k);
    const auto weights = random_values(random_, ids.size());
    const auto together = run(x, ids, weights);
    for (const int t : std::set<int>{0, tokens / 3, tokens / 2, tokens - 1}) {
      const auto alone = run(std::span(x).subspan(size(t * w.hidden), size(w.hidden)),
                             std::span(ids).subspan(size(t * w.top_k), size(w.top_k)),
                             std::span(weights).subspan(size(t * w.top_k), size(w.top_k)));
      const auto begin = together.begin() + t * w.hidden;
      ASSERT_EQ(alone, std::vector<float>(begin, begin + w.hidden))
          << "token " << t << " of " << tokens;
    }
  }
}

TEST_P(MoeOps, ExpertsOfOddWidthsAgree) {
  Device device(*GetParam().backend);
  for (WideExperts odd : {WideExperts{72, 52, 5, 2, 0}, WideExperts{44, 20, 5, 2, 2},
                          WideExperts{136, 56, 5, 2, 3}, WideExperts{200, 8, 6, 1, 0}}) {
    odd.fill(device, random_, GetParam().weights);
    for (const int tokens : {1, 6, 40}) {
      SCOPED_TRACE(::testing::Message() << odd.hidden << " x " << odd.inner << ", " << tokens);
      expect_experts(device, odd, random_, tokens,
                     random_choice(random_, tokens, odd.experts, odd.top_k));
    }
  }
}

// Scratch of ffn_block for `tokens` tokens.
FfnScratch ffn_scratch(Device& device, const WideExperts& w, int tokens) {
  FfnScratch scratch;
  scratch.normed = device.empty_activations(size(tokens * w.hidden));
  scratch.gate_up =
      device.empty_activations(size(tokens) * 2 * size((w.top_k + w.shared) * w.inner));
  scratch.router_logits = device.array(std::vector<float>(size(tokens * w.experts)));
  scratch.expert_ids = device.array(std::vector<std::int32_t>(size(tokens * w.top_k), -1));
  scratch.expert_weights = device.array(std::vector<float>(size(tokens * w.top_k)));
  return scratch;
}

TEST_P(MoeOps, FfnBlockIsItsOperationsOneAfterAnother) {
  Device device(*GetParam().backend);
  for (WideExperts w : {WideExperts{256, 64, 64, 6, 2}, WideExperts{264, 40, 20, 3, 0},
                        WideExperts{72, 24, 160, 5, 1}, WideExperts{2304, 16, 8, 2, 1}}) {
    w.fill(device, random_, GetParam().weights);
    LayerWeights layer;
    layer.moe = w.on_device;
    layer.moe.router = device
                           .tensor(random_values(random_, size(w.experts * w.hidden)),
                                   GetParam().weights, {w.experts, w.hidden})
                           .device;
    layer.post_attention_norm =
        device.tensor(random_values(random_, size(w.hidden)), GetParam().weights, {w.hidden})
            .device;
    FfnBlockParams p;
    p.hidden_size = w.hidden;
    p.norm_eps = 1e-6F;
    p.weights = &layer;
    p.routing.num_experts = w.experts;
    p.routing.experts_per_token = w.top_k;
    // Twice, because a launch may leave something for the next one.
    for (const int tokens : {1, 2, 7, 7, 16, 17, 65}) {
      SCOPED_TRACE(::testing::Message() << w.hidden << " wide, " << tokens << " tokens");
      const auto values = random_values(random_, size(tokens * w.hidden), 2.0F);
      p.num_tokens = tokens;
      p.hidden = device.activations(values);
      p.scratch = ffn_scratch(device, w, tokens);
      device->ffn_block(p);
      void* hidden = device.activations(values);
      const FfnScratch s = ffn_scratch(device, w, tokens);
      device->rms_norm({hidden, layer.post_attention_norm, s.normed, tokens, w.hidden, w.hidden,
                        w.hidden, p.norm_eps});
      device->linear({s.normed, layer.moe.router, s.router_logits, tokens, false, true});
      device->route(
          {p.routing, s.router_logits, TensorView{}, s.expert_ids, s.expert_weights, tokens});
      device->experts({s.normed, &layer.moe, s.expert_ids, s.expert_weights, hidden, s.gate_up,
                       tokens, w.hidden, w.experts, w.top_k});
      const auto count = size(tokens * w.top_k);
      EXPECT_EQ(device.read(p.scratch.expert_ids, count), device.read(s.expert_ids, count));
      EXPECT_LT(oracle::relative_error(to_double(device.read_activations(p.hidden, values.size())),
                                       to_double(device.read_activations(hidden, values.size()))),
                device.tolerance());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Conformance, MoeOps, ::testing::ValuesIn(all_cases()),
                         [](const auto& test) { return case_name(test.param); });

}  // namespace
}  // namespace latentd::conformance

// embed, gather, prepare, rms_norm, linear and mlp against double precision.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "tests/conformance/device.h"
#include "tests/support/mla_oracle.h"

namespace latentd::conformance {
namespace {

constexpr std::uint64_t kSeed = 20261124;

class DenseOps : public ::testing::TestWithParam<Case> {
 protected:
  std::mt19937_64 random_{kSeed};
};

struct LinearShape {
  int rows, outputs, inputs;
};

TEST_P(DenseOps, LinearAgreesWithDoublePrecisionForEveryShape) {
  Device device(*GetParam().backend);
  for (const LinearShape s : {LinearShape{1, 1, 1},
                              {1, 7, 5},
                              {2, 4, 16},
                              {3, 9, 33},
                              {5, 64, 100},
                              {6, 3, 576},
                              {7, 130, 48},
                              {64, 17, 31},
                              {97, 40, 128},
                              {200, 8, 24},
                              {1, 301, 1024},
                              {1, 64, 2048},
                              {8, 96, 1408},
                              {9, 17, 136},
                              {33, 72, 264},
                              {128, 48, 512},
                              {1000, 24, 72}}) {
    SCOPED_TRACE(::testing::Message() << s.rows << " x " << s.outputs << " x " << s.inputs);
    const auto rows = static_cast<std::size_t>(s.rows);
    const auto outputs = static_cast<std::size_t>(s.outputs);
    const auto inputs = static_cast<std::size_t>(s.inputs);
    const Tensor weight = device.tensor(random_values(random_, outputs * inputs),
                                        GetParam().weights, {s.outputs, s.inputs});
    const auto x = random_values(random_, rows * inputs);
    const auto before = random_values(random_, rows * outputs);
    for (const bool accumulate : {false, true}) {
      void* out = device.activations(before);
      device->linear({device.activations(x), weight.device, out, s.rows, accumulate});
      const auto actual = to_double(device.read_activations(out, rows * outputs));

      const auto seen = device.as_seen(x);
      auto expected = accumulate ? device.as_seen(before) : std::vector<double>(rows * outputs);
      for (std::size_t r = 0; r < rows; ++r) {
        const auto row = oracle::matvec(weight.host, std::span(seen).subspan(r * inputs, inputs));
        for (std::size_t i = 0; i < outputs; ++i) expected[r * outputs + i] += row[i];
      }
      EXPECT_LT(oracle::relative_error(actual, expected), device.tolerance());
    }
  }
}

TEST_P(DenseOps, RmsNormAgreesWithDoublePrecisionAndWorksInPlace) {
  Device device(*GetParam().backend);
  // Whole vectors, and rows that lie across them.
  for (const auto& [dim, between] :
       {std::pair{1, 3}, {5, 3}, {16, 8}, {100, 4}, {768, 3}, {768, 8}, {1536, 8}, {2048, 8}}) {
    SCOPED_TRACE(std::to_string(dim) + " + " + std::to_string(between));
    constexpr std::size_t kRows = 19;
    const auto width = static_cast<std::size_t>(dim);
    const std::size_t stride = width + static_cast<std::size_t>(between);
    const Tensor weight = device.tensor(random_values(random_, width), GetParam().weights, {dim});
    const auto x = random_values(random_, kRows * stride, 3.0F);
    void* data = device.activations(x);
    const auto elements = static_cast<std::int32_t>(stride);
    device->rms_norm({data, weight.device, data, kRows, dim, elements, elements, 1e-6F});
    const auto actual = to_double(device.read_activations(data, kRows * stride));
    const auto seen = device.as_seen(x);
    for (std::size_t r = 0; r < kRows; ++r) {
      const auto row = std::span(seen).subspan(r * stride, width);
      const auto expected = oracle::rms_norm(row, weight.host, 1e-6);
      EXPECT_LT(oracle::relative_error(std::span(actual).subspan(r * stride, width), expected),
                device.tolerance());
      for (std::size_t i = width; i < stride; ++i) {
        EXPECT_EQ(actual[r * stride + i], seen[r * stride + i]) << "between the rows";
      }
    }
  }
}

TEST_P(DenseOps, EmbedAndGatherCopyRows) {
  Device device(*GetParam().backend);
  constexpr int kVocab = 50;
  constexpr int kWidth = 37;
  const auto values = random_values(random_, std::size_t{kVocab} * kWidth);
  const Tensor table = device.tensor(values, GetParam().weights, {kVocab, kWidth});
  const std::vector<TokenId> tokens = {49, 0, 7, 7, 31};
  void* hidden = device.empty_activations(tokens.size() * kWidth);
  device->embed({device.array(tokens), table.device, hidden, 5});
  const std::vector<std::int32_t> indices = {4, 0, 0};
  void* gathered = device.empty_activations(indices.size() * kWidth);
  device->gather({hidden, device.array(indices), gathered, 3, kWidth});

  const auto expected =
      rounded_to(device->activation_dtype(), rounded_to(GetParam().weights, values));
  const auto actual = device.read_activations(gathered, indices.size() * kWidth);
  for (std::size_t i = 0; i < indices.size(); ++i) {
    const auto token = static_cast<std::size_t>(tokens[static_cast<std::size_t>(indices[i])]);
    for (std::size_t j = 0; j < kWidth; ++j) {
      EXPECT_EQ(actual[i * kWidth + j], expected[token * kWidth + j]);
    }
  }
}

TEST_P(DenseOps, PrepareAppliesUpdatesAndFillsPendingTokens) {
  Device device(*GetParam().backend);
  const std::vector<SlotUpdate> updates = {{0, 1, 40}, {2, 3, 41}, {0, 1, 42}};
  auto* table = device.array(std::vector<std::int32_t>(12, -7));
  auto* tokens = device.array(std::vector<TokenId>{5, -1, 6, -1});
  device->prepare({device.array(updates), 3, table, 4, tokens,
                   device.array(std::vector<std::int32_t>{0, 2, 2, 1}),
                   device.array(std::vector<TokenId>{100, 101, 102}), 4});
  EXPECT_EQ(device.read(tokens, 4), (std::vector<TokenId>{5, 102, 6, 101}));
  std::vector<std::int32_t> expected(12, -7);
  expected[1] = 42;
  expected[2 * 4 + 3] = 41;
  EXPECT_EQ(device.read(table, 12), expected);
}

TEST_P(DenseOps, MlpAgreesWithDoublePrecision) {
  Device device(*GetParam().backend);
  constexpr int kHidden = 72;
  constexpr int kInner = 100;
  const auto matrix = [&](int outputs, int inputs) {
    const auto count = static_cast<std::size_t>(outputs) * static_cast<std::size_t>(inputs);
    return device.tensor(random_values(random_, count, 0.3F), GetParam().weights,
                         {outputs, inputs});
  };
  const Tensor gate = matrix(kInner, kHidden);
  const Tensor up = matrix(kInner, kHidden);
  const Tensor down = matrix(kHidden, kInner);
  const MlpWeights on_device{gate.device, up.device, down.device};
  const MlpWeights on_host{gate.host, up.host, down.host};
  for (const int tokens : {1, 2, 5, 130}) {
    SCOPED_TRACE(tokens);
    const auto count = static_cast<std::size_t>(tokens) * kHidden;
    const auto x = random_values(random_, count);
    const auto before = random_values(random_, count);
    void* hidden = device.activations(before);
    void* scratch = device.empty_activations(static_cast<std::size_t>(tokens) * 2 * kInner);
    device->mlp({device.activations(x), &on_device, hidden, scratch, tokens, kHidden});
    const auto actual = to_double(device.read_activations(hidden, count));

    const auto seen = device.as_seen(x);
    auto expected = device.as_seen(before);
    for (std::size_t t = 0; t < static_cast<std::size_t>(tokens); ++t) {
      const auto out = oracle::mlp(on_host, std::span(seen).subspan(t * kHidden, kHidden));
      for (std::size_t i = 0; i < kHidden; ++i) expected[t * kHidden + i] += out[i];
    }
    EXPECT_LT(oracle::relative_error(actual, expected), device.tolerance());
  }
}

INSTANTIATE_TEST_SUITE_P(Conformance, DenseOps, ::testing::ValuesIn(all_cases()),
                         [](const auto& test) { return case_name(test.param); });

}  // namespace
}  // namespace latentd::conformance

// Absorbed attention over an fp8 cache at 512 + 64, vector by vector against double precision over
// what the cache holds.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "tests/conformance/attention_layers.h"
#include "tests/conformance/device.h"
#include "tests/conformance/paged_cache.h"
#include "tests/support/mla_oracle.h"

namespace latentd::conformance {
namespace {

constexpr std::uint64_t kSeed = 20261201;
constexpr int kLatents = 512;
constexpr int kRope = 64;
constexpr int kWidth = kLatents + kRope;
// Of one vector: its result is rounded to bf16, and weights may be. Two or three that hold nearly
// all of a row are off by 2^-9 each, in either direction.
constexpr double kTolerance = 7e-3;

std::size_t size(int value) { return static_cast<std::size_t>(value); }

MlaGeometry geometry(int heads) {
  MlaGeometry g;
  g.num_heads = heads;
  g.kv_lora_rank = kLatents;
  g.rope_dim = kRope;
  g.nope_dim = 128;
  g.v_dim = 128;
  g.softmax_scale = 1.0F / std::sqrt(192.0F);
  g.norm_eps = 1e-6F;
  return g;
}

// sum_j softmax(scale q . c_j) c_j over the latents of the rows c_j.
std::vector<double> attend(const MlaGeometry& g, std::span<const double> q,
                           std::span<const double> rows) {
  std::vector<double> scores(rows.size() / kWidth);
  for (std::size_t j = 0; j < scores.size(); ++j) {
    for (std::size_t i = 0; i < kWidth; ++i) scores[j] += q[i] * rows[j * kWidth + i];
    scores[j] *= static_cast<double>(g.softmax_scale);
  }
  const double highest = *std::max_element(scores.begin(), scores.end());
  double total = 0.0;
  for (double& score : scores) total += score = std::exp(score - highest);
  std::vector<double> out(kLatents);
  for (std::size_t j = 0; j < scores.size(); ++j) {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] += scores[j] / total * rows[j * kWidth + i];
  }
  return out;
}

// Multiplies the latents of a row in the cache, before they are rounded.
using Scaling = std::function<float(int slot, int position, int group)>;

class Fp8Attention : public ::testing::TestWithParam<const BackendUnderTest*> {
 protected:
  void SetUp() override {
    const auto& caches = GetParam()->caches;
    if (std::find(caches.begin(), caches.end(), DType::kF8E4M3) == caches.end()) {
      GTEST_SKIP() << "no fp8 cache";
    }
  }

  // The cache of the rows' sequences, and what it holds.
  struct Filled {
    Filled(Device& device, std::mt19937_64& random, const MlaGeometry& g,
           const std::vector<StepRow>& rows, int page_tokens, const Scaling& scaling)
        : cache(device, random, g, DType::kF8E4M3, lengths(rows), {page_tokens, 2}),
          values(rows.size()) {
      for (const StepRow& row : rows) {
        for (int position = 0; position < row.start + row.count; ++position) {
          auto one = random_values(random, kWidth);
          for (int i = 0; i < kLatents; ++i) one[size(i)] *= scaling(row.slot, position, i / 128);
          const auto stored = cache.set(row.slot, position, one);
          auto& all = values[size(row.slot)];
          all.insert(all.end(), stored.begin(), stored.end());
        }
      }
      cache.flush();
    }
    static std::vector<int> lengths(const std::vector<StepRow>& rows) {
      std::vector<int> result(rows.size());
      for (const StepRow& row : rows) result[size(row.slot)] = row.start + row.count;
      return result;
    }
    PagedCache cache;
    std::vector<std::vector<double>> values;  // of the slots
  };

  // Every `stride`th query vector is compared.
  void expect_exact(Device& device, const std::vector<StepRow>& rows, int heads, int page_tokens,
                    int stride, float query_scale, const Scaling& scaling) {
    const MlaGeometry g = geometry(heads);
    const Filled filled(device, random_, g, rows, page_tokens, scaling);
    const BatchView batch = make_batch(device, filled.cache, rows);
    const auto vectors = size(batch.num_tokens * heads);
    const auto q = random_values(random_, vectors * kWidth, query_scale);
    const auto actual = to_double(attend_in_layers(device, g, batch, filled.cache.view(), q));
    const auto seen = device.as_seen(q);

    std::size_t vector = 0;
    for (const StepRow& row : rows) {
      for (int token = 0; token < row.count; ++token) {
        const auto visible =
            std::span(filled.values[size(row.slot)]).first(size(row.start + token + 1) * kWidth);
        for (int head = 0; head < heads; ++head, ++vector) {
          if (vector % size(stride) != 0) continue;
          const auto expected =
              attend(g, std::span(seen).subspan(vector * kWidth, kWidth), visible);
          ASSERT_LT(oracle::relative_error(std::span(actual).subspan(vector * kLatents, kLatents),
                                           expected),
                    kTolerance)
              << heads << " heads, pages of " << page_tokens << ", token " << token << " after "
              << row.start << ", head " << head;
        }
      }
    }
    ASSERT_TRUE(
        std::all_of(actual.begin(), actual.end(), [](double x) { return std::isfinite(x); }));
  }

  bool large() const { return GetParam()->large; }

  std::mt19937_64 random_{kSeed};
};

float uneven(int slot, int position, int group) {
  return std::ldexp(1.0F, (slot * 5 + position * 7 + group * 3) % 9 - 6);
}

TEST_P(Fp8Attention, SeesExactlyThePositionsUpToItsOwn) {
  Device device(*GetParam());
  const std::vector<int> all_heads = large() ? std::vector{1, 16, 20, 40, 64, 128} : std::vector{3};
  for (const int heads : all_heads) {
    for (const int context : {0, 1, 62, 63, 64, 65, 127, 1000}) {
      const int count = 1 + (context + heads) % 4;
      const int page_tokens = 16 << (context + heads / 8) % 3;
      if (!large() && context > 500) continue;
      expect_exact(device, {{0, context, count}}, heads, page_tokens, heads * count > 20 ? 13 : 3,
                   0.3F, uneven);
    }
  }
}

TEST_P(Fp8Attention, ReadsLongContextsFromPagesOfEverySize) {
  Device device(*GetParam());
  const int context = large() ? 8191 : 700;
  for (const auto& [page_tokens, heads] : {std::pair(16, 16), {32, 1}, {64, 128}, {64, 16}}) {
    if (!large() && heads > 16) continue;
    expect_exact(device, {{0, context, 1}}, heads, page_tokens, heads > 1 ? 11 : 1, 0.3F, uneven);
  }
  if (large()) expect_exact(device, {{0, 8000, 200}}, 16, 64, 401, 0.3F, uneven);
}

TEST_P(Fp8Attention, MixesRowsOfAllLengthsAndCounts) {
  Device device(*GetParam());
  std::vector<StepRow> rows;
  for (int i = 0; i < (large() ? 70 : 7); ++i) {
    rows.push_back({i, i == 5 ? (large() ? 5000 : 300) : i * 37 % 400, 1 + i % 4});
  }
  expect_exact(device, rows, large() ? 16 : 2, 32, 7, 0.3F, uneven);
  if (large()) expect_exact(device, rows, 40, 64, 37, 0.3F, uneven);
}

// The first keys' scales are the least, so the unit of the sums grows; the last are those of codes
// that no longer count beside them.
TEST_P(Fp8Attention, KeepsItsPrecisionWhereScalesGrowByManyPowersOfTwo) {
  Device device(*GetParam());
  const auto growing = [](int /*slot*/, int position, int group) {
    return std::ldexp(1.0F, std::min(position / 3, 60) - 50 + group % 2 * 9);
  };
  const auto shrinking = [](int /*slot*/, int position, int group) {
    return std::ldexp(1.0F, 4 - std::min(position / 3, 60) + group % 2 * 9);
  };
  const auto alternating = [](int /*slot*/, int position, int group) {
    return position % 5 == 0 ? 0.0F : std::ldexp(1.0F, (position + group) % 2 * 24 - 20);
  };
  for (const int heads : {2, 16, 64}) {
    if (!large() && heads > 2) continue;
    for (const Scaling& scaling : {Scaling(growing), Scaling(shrinking), Scaling(alternating)}) {
      expect_exact(device, {{0, 199, 1}}, heads, 32, 3, 0x1p-10F, scaling);
    }
  }
}

TEST_P(Fp8Attention, TakesQueriesOfAnyMagnitude) {
  Device device(*GetParam());
  for (const float magnitude : {0x1p-100F, 0x1p-20F, 1.0F, 0x1p17F}) {
    const auto small = [=](int /*slot*/, int /*position*/, int /*group*/) {
      return magnitude > 1.0F ? 0x1p-17F : 1.0F;
    };
    expect_exact(device, {{0, 150, 1}}, 2, 64, 1, magnitude, small);
  }
}

TEST_P(Fp8Attention, TakesLatentsOfAnyMagnitude) {
  Device device(*GetParam());
  for (const int heads : {2, 64}) {
    if (!large() && heads > 2) continue;
    for (const int exponent : {-40, 7, 16, 60, 100}) {
      const auto scaling = [=](int /*slot*/, int position, int group) {
        return std::ldexp(1.0F, exponent + (position + group) % 3);
      };
      expect_exact(device, {{0, 150, 1}}, heads, 64, heads == 2 ? 1 : 7,
                   std::ldexp(1.0F, std::min(-exponent, 0) - 4), scaling);
    }
  }
}

TEST_P(Fp8Attention, SeesNoLatentsWhereThereAreNone) {
  const auto none = [](int, int, int) { return 0.0F; };
  Device device(*GetParam());
  const MlaGeometry g = geometry(16);
  const std::vector<StepRow> rows = {{0, 99, 1}};
  const Filled filled(device, random_, g, rows, 64, none);
  const BatchView batch = make_batch(device, filled.cache, rows);
  void* out = device.empty_activations(16 * kLatents);
  device->plan_attention({batch, g, 64, DType::kF8E4M3});
  device->absorbed_attention({batch, filled.cache.view(), g,
                              device.activations(random_values(random_, 16 * kWidth)), out});
  const auto actual = device.read_activations(out, 16 * kLatents);
  EXPECT_TRUE(std::all_of(actual.begin(), actual.end(), [](float x) { return x == 0.0F; }));
}

TEST_P(Fp8Attention, KeepsAScaleOfNaNInItsSequence) {
  Device device(*GetParam());
  for (const int heads : {3, 20, 64}) {
    if (!large() && heads > 3) continue;
    const MlaGeometry g = geometry(heads);
    const std::vector<StepRow> rows = {{0, 150, 1}, {1, 150, 1}, {2, 60, 1}};
    Filled filled(device, random_, g, rows, 16, uneven);
    filled.cache.set_scale(1, 70, 2, std::numeric_limits<float>::quiet_NaN());
    filled.cache.flush();
    const BatchView batch = make_batch(device, filled.cache, rows);
    const auto values = size(heads) * kLatents;
    const auto q = random_values(random_, rows.size() * size(heads) * kWidth);
    void* out = device.empty_activations(rows.size() * values);
    device->plan_attention({batch, g, 16, DType::kF8E4M3});
    device->absorbed_attention({batch, filled.cache.view(), g, device.activations(q), out});
    const auto actual = device.read_activations(out, rows.size() * values);
    for (std::size_t i = 0; i < actual.size(); ++i) {
      const bool has_scale = i / values == 1 && i % kLatents / 128 == 2;
      if (has_scale || i / values != 1) {
        ASSERT_EQ(std::isnan(actual[i]), has_scale) << heads << " heads, value " << i;
      }
    }
  }
}

std::vector<const BackendUnderTest*> all_backends() {
  std::vector<const BackendUnderTest*> all;
  for (const BackendUnderTest& backend : backends()) all.push_back(&backend);
  return all;
}

INSTANTIATE_TEST_SUITE_P(Conformance, Fp8Attention, ::testing::ValuesIn(all_backends()),
                         [](const auto& test) { return test.param->name; });

}  // namespace
}  // namespace latentd::conformance

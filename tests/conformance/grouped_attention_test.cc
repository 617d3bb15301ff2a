// append_keys_values and grouped_attention (MHA, GQA, MQA) against double precision, and against
// themselves: bits of a token do not depend on what shares its step.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "tests/conformance/device.h"
#include "tests/conformance/paged_keys_values.h"
#include "tests/support/gqa_oracle.h"

namespace latentd::conformance {
namespace {

constexpr std::uint64_t kSeed = 20261130;

std::size_t size(int value) { return static_cast<std::size_t>(value); }

GqaGeometry geometry(int heads, int kv_heads, int head_dim) {
  GqaGeometry g;
  g.num_heads = heads;
  g.num_kv_heads = kv_heads;
  g.head_dim = head_dim;
  g.softmax_scale = 1.0F / std::sqrt(static_cast<float>(head_dim));
  return g;
}

oracle::GroupedShape shape_of(const GqaGeometry& g) {
  return {g.num_heads, g.num_kv_heads, g.head_dim, static_cast<double>(g.softmax_scale)};
}

std::string describe(const GqaGeometry& g, const StepRow& row, int page_tokens) {
  return std::to_string(g.num_heads) + "/" + std::to_string(g.num_kv_heads) + " heads of " +
         std::to_string(g.head_dim) + ", " + std::to_string(row.count) + " tokens after " +
         std::to_string(row.start) + ", pages of " + std::to_string(page_tokens);
}

// The keys and values of a slot, [tokens, kv heads, head_dim], as the cache rounds them.
struct Sequence {
  std::vector<double> keys;
  std::vector<double> values;
};

// A step whose rows' contexts and own keys and values are all in the cache.
struct Step {
  Step(Device& device, std::mt19937_64& random, const GqaGeometry& geometry, DType dtype,
       const std::vector<StepRow>& step_rows, int page_tokens = 64)
      : g(geometry),
        rows(step_rows),
        cache(device, random, g, dtype, lengths(step_rows), page_tokens),
        sequences(step_rows.size()) {
    for (const StepRow& row : rows) {
      Sequence& sequence = sequences[size(row.slot)];
      for (int position = 0; position < row.start + row.count; ++position) {
        const auto key = rounded_to(dtype, random_values(random, size(g.kv_dim())));
        const auto value = rounded_to(dtype, random_values(random, size(g.kv_dim())));
        cache.set(row.slot, position, key, value);
        sequence.keys.insert(sequence.keys.end(), key.begin(), key.end());
        sequence.values.insert(sequence.values.end(), value.begin(), value.end());
      }
    }
    cache.flush();
    batch = cache.batch(rows);
  }

  static std::vector<int> lengths(const std::vector<StepRow>& rows) {
    std::vector<int> result(rows.size());
    for (const StepRow& row : rows) result[size(row.slot)] = row.start + row.count;
    return result;
  }

  std::size_t query_elements() const {
    return size(batch.num_tokens) * size(g.num_heads) * size(g.head_dim);
  }

  // What every token of the step should get.
  std::vector<double> expected(std::span<const double> q) const {
    const std::size_t width = size(g.num_heads) * size(g.head_dim);
    std::vector<double> out;
    std::size_t token = 0;
    for (const StepRow& row : rows) {
      for (int i = 0; i < row.count; ++i, ++token) {
        const Sequence& s = sequences[size(row.slot)];
        const std::size_t seen = size(row.start + i + 1) * size(g.kv_dim());
        const auto one = oracle::grouped_attention(shape_of(g), q.subspan(token * width, width),
                                                   std::span(s.keys).first(seen),
                                                   std::span(s.values).first(seen));
        out.insert(out.end(), one.begin(), one.end());
      }
    }
    return out;
  }

  GqaGeometry g;
  std::vector<StepRow> rows;
  PagedKeysValues cache;
  std::vector<Sequence> sequences;  // by slot
  BatchView batch;
};

class GroupedAttentionOps : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (GetParam().weights != GetParam().cache) GTEST_SKIP() << "weights take no part";
  }

  static void expect_oracle(Device& device, std::mt19937_64& random, const Step& step) {
    const auto q = random_values(random, step.query_elements());
    void* out = device.empty_activations(q.size());
    device->grouped_attention({step.batch, step.cache.view(), step.g, device.activations(q), out});
    const auto actual = to_double(device.read_activations(out, q.size()));
    EXPECT_LT(oracle::relative_error(actual, step.expected(device.as_seen(q))), device.tolerance());
  }

  std::mt19937_64 random_{kSeed};
};

TEST_P(GroupedAttentionOps, EveryTokenSeesExactlyThePositionsUpToItsOwn) {
  Device device(*GetParam().backend);
  int turn = 0;
  for (const auto& [heads, kv_heads] :
       {std::pair(8, 8), std::pair(8, 2), std::pair(8, 1), std::pair(40, 8)}) {
    for (const int head_dim : {64, 80, 128}) {
      const GqaGeometry g = geometry(heads, kv_heads, head_dim);
      for (const StepRow row : {StepRow{0, 0, 1},
                                {0, 1, 1},
                                {0, 63, 1},
                                {0, 64, 2},
                                {0, 65, 1},
                                {0, 1000, 2},
                                {0, 0, 70},
                                {0, 60, 9}}) {
        const int page_tokens = 16 << (turn++ % 3);
        SCOPED_TRACE(describe(g, row, page_tokens));
        expect_oracle(device, random_,
                      Step(device, random_, g, GetParam().cache, {row}, page_tokens));
      }
    }
  }
}

TEST_P(GroupedAttentionOps, OddSizesLeaveNothingOut) {
  Device device(*GetParam().backend);
  // Groups larger than what shares a pass, that do not divide it, and heads of odd halves.
  for (const GqaGeometry& g : {geometry(100, 1, 6), geometry(21, 3, 10), geometry(1, 1, 2)}) {
    for (const StepRow row : {StepRow{0, 0, 1}, {0, 200, 1}, {0, 30, 67}}) {
      SCOPED_TRACE(describe(g, row, 32));
      expect_oracle(device, random_, Step(device, random_, g, GetParam().cache, {row}, 32));
    }
  }
}

TEST_P(GroupedAttentionOps, RowsOfAStepSeeTheirOwnSequences) {
  Device device(*GetParam().backend);
  for (const GqaGeometry& g : {geometry(8, 2, 64), geometry(6, 6, 16), geometry(5, 1, 24)}) {
    SCOPED_TRACE(describe(g, {}, 64));
    expect_oracle(device, random_,
                  Step(device, random_, g, GetParam().cache,
                       {{2, 0, 5}, {0, 130, 1}, {3, 64, 2}, {1, 7, 70}}));
  }
}

// A step as a captured graph sees it: rows without tokens and tokens without rows behind the real
// ones.
BatchView padded(Device& device, const BatchView& batch, int rows, int tokens) {
  std::vector<RowView> views = device.read(batch.rows, size(batch.num_rows));
  std::vector<std::int32_t> positions = device.read(batch.positions, size(batch.num_tokens));
  std::vector<std::int32_t> slots = device.read(batch.token_slots, size(batch.num_tokens));
  views.resize(views.size() + size(rows));
  positions.resize(positions.size() + size(tokens));
  slots.resize(slots.size() + size(tokens), -1);
  BatchView result = batch;
  result.num_rows += rows;
  result.num_tokens += tokens;
  result.rows = device.array(views);
  result.positions = device.array(positions);
  result.token_slots = device.array(slots);
  return result;
}

TEST_P(GroupedAttentionOps, PaddingChangesNoBitAndLeavesTheCacheAlone) {
  Device device(*GetParam().backend);
  for (const GqaGeometry& g : {geometry(8, 2, 64), geometry(3, 1, 10)}) {
    SCOPED_TRACE(describe(g, {}, 64));
    const Step step(device, random_, g, GetParam().cache,
                    {{1, 62, 2}, {0, 0, 1}, {2, 300, 1}, {3, 700, 1}});
    const std::size_t real = step.query_elements();
    const BatchView batch = padded(device, step.batch, 7, 8);
    const std::size_t all = size(batch.num_tokens) * size(g.num_heads) * size(g.head_dim);
    const auto q = random_values(random_, all);
    const auto k = random_values(random_, size(batch.num_tokens * g.kv_dim()));
    const auto v = random_values(random_, size(batch.num_tokens * g.kv_dim()));
    const std::vector<float> rotation(size(800 * g.head_dim / 2), 0.6F);
    std::vector<std::vector<std::byte>> pools;
    std::vector<std::vector<float>> outs;
    for (const BatchView& one : {step.batch, batch}) {
      PagedKeysValues cache = step.cache;
      cache.flush();
      void* device_q = device.activations(q);
      device->append_keys_values({one, cache.view(), g, device_q, device.activations(k),
                                  device.activations(v), device.array(rotation),
                                  device.array(rotation)});
      // What lies there before must not survive in padding.
      void* out = device.activations(std::vector<float>(all, std::nanf("")));
      device->grouped_attention({one, cache.view(), g, device_q, out});
      pools.push_back(cache.device_pool());
      const auto values =
          device.read_activations(out, size(one.num_tokens) * size(g.num_heads) * size(g.head_dim));
      EXPECT_TRUE(
          std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); }));
      outs.emplace_back(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(real));
    }
    EXPECT_EQ(pools[0], pools[1]);
    EXPECT_EQ(outs[0], outs[1]);
  }
}

// DESIGN rule 4, of the operation: every token alone, in pieces, and with all others.
TEST_P(GroupedAttentionOps, BitsDependOnTheTokenAloneHoweverAPromptIsCut) {
  if (!GetParam().backend->batch_invariant) GTEST_SKIP() << "no such promise";
  constexpr int kPrompt = 150;
  for (const GqaGeometry& g : {geometry(8, 8, 64), geometry(8, 2, 40), geometry(7, 1, 16)}) {
    SCOPED_TRACE(describe(g, {}, 64));
    std::mt19937_64 random(kSeed);
    Device device(*GetParam().backend, 2);
    const Step step(device, random, g, GetParam().cache, {{1, 0, kPrompt}, {0, 90, 1}});
    const std::size_t width = size(g.num_heads) * size(g.head_dim);
    const auto q = random_values(random, step.query_elements());
    void* out = device.empty_activations(q.size());
    device->grouped_attention({step.batch, step.cache.view(), g, device.activations(q), out});
    const auto whole = device.read_activations(out, q.size());
    for (const int threads : {1, 3}) {
      std::mt19937_64 same(kSeed);
      Device other(*GetParam().backend, threads);
      Step cut(other, same, g, GetParam().cache, {{1, 0, kPrompt}, {0, 90, 1}});
      for (const int piece : {1, 7, 64}) {
        for (int first = 0; first < kPrompt; first += piece) {
          const int count = std::min(piece, kPrompt - first);
          const auto part = std::span(q).subspan(size(first) * width, size(count) * width);
          void* part_out = other.empty_activations(part.size());
          other->grouped_attention({cut.cache.batch({{1, first, count}}), cut.cache.view(), g,
                                    other.activations(part), part_out});
          const auto begin = whole.begin() + static_cast<std::ptrdiff_t>(size(first) * width);
          ASSERT_EQ(other.read_activations(part_out, part.size()),
                    std::vector<float>(begin, begin + static_cast<std::ptrdiff_t>(part.size())))
              << count << " tokens from " << first << ", " << threads << " threads";
        }
      }
    }
  }
}

// cos and sin of every position.
struct Angles {
  Angles(Device& device, const RopeConfig& rope, int head_dim, int positions) {
    std::vector<float> cosines;
    std::vector<float> sines;
    for (int position = 0; position < positions; ++position) {
      for (int i = 0; i < head_dim / 2; ++i) {
        const double angle = position * std::pow(rope.theta, -2.0 * i / head_dim);
        cosines.push_back(static_cast<float>(std::cos(angle)));
        sines.push_back(static_cast<float>(std::sin(angle)));
      }
    }
    cosine = device.array(cosines);
    sine = device.array(sines);
  }
  float* cosine;
  float* sine;
};

void rotate_all(std::span<double> heads, int head_dim, int position, const RopeConfig& rope) {
  for (std::size_t at = 0; at < heads.size(); at += size(head_dim)) {
    oracle::rope(heads.subspan(at, size(head_dim)), position, rope);
  }
}

TEST_P(GroupedAttentionOps, AppendingRotatesQueriesAndKeysAndKeepsValues) {
  Device device(*GetParam().backend);
  for (const bool interleaved : {true, false}) {
    SCOPED_TRACE(interleaved ? "interleaved" : "halves");
    GqaGeometry g = geometry(6, 2, 14);
    g.rope_interleaved = interleaved;
    RopeConfig rope;
    rope.interleaved = interleaved;
    const Angles angles(device, rope, g.head_dim, 200);
    const std::vector<StepRow> rows = {{1, 62, 5}, {0, 0, 1}, {2, 150, 30}};
    PagedKeysValues cache(device, random_, g, GetParam().cache, {1, 67, 180}, 32);
    const BatchView batch = cache.batch(rows);
    const std::size_t q_width = size(g.num_heads * g.head_dim);
    const std::size_t kv_width = size(g.kv_dim());
    const auto q = random_values(random_, size(batch.num_tokens) * q_width);
    const auto k = random_values(random_, size(batch.num_tokens) * kv_width, 2.0F);
    const auto v = random_values(random_, size(batch.num_tokens) * kv_width, 3.0F);
    void* device_q = device.activations(q);
    device->append_keys_values({batch, cache.view(), g, device_q, device.activations(k),
                                device.activations(v), angles.cosine, angles.sine});

    auto expected_q = device.as_seen(q);
    auto keys = device.as_seen(k);
    const auto values = device.as_seen(v);
    const double cache_tolerance =
        GetParam().cache == DType::kBF16 ? 4e-3 : device.tolerance();  // half a unit of 8 bits
    std::size_t t = 0;
    for (const StepRow& row : rows) {
      for (int position = row.start; position < row.start + row.count; ++position, ++t) {
        rotate_all(std::span(expected_q).subspan(t * q_width, q_width), g.head_dim, position, rope);
        const auto key = std::span(keys).subspan(t * kv_width, kv_width);
        rotate_all(key, g.head_dim, position, rope);
        EXPECT_LT(oracle::relative_error(cache.device_key(row.slot, position), key),
                  cache_tolerance);
        EXPECT_LT(oracle::relative_error(cache.device_value(row.slot, position),
                                         std::span(values).subspan(t * kv_width, kv_width)),
                  cache_tolerance);
      }
    }
    const auto actual_q = to_double(device.read_activations(device_q, q.size()));
    EXPECT_LT(oracle::relative_error(actual_q, expected_q), device.tolerance());
  }
}

INSTANTIATE_TEST_SUITE_P(Conformance, GroupedAttentionOps, ::testing::ValuesIn(all_cases()),
                         [](const auto& test) { return case_name(test.param); });

}  // namespace
}  // namespace latentd::conformance

// Expanded attention at the head dims of real models against double precision: long contexts,
// several rows, and what must not leak from one row into another.
//
// Scores spread widely (a standard deviation above 2), so that a few keys decide a result and a key
// too many or too few shows. Long cases look at some heads and queries only.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tests/conformance/device.h"
#include "tests/conformance/paged_cache.h"
#include "tests/support/mla_oracle.h"

namespace latentd::conformance {
namespace {

constexpr std::uint64_t kSeed = 20261124;
constexpr float kQueryScale = 6.0F;

std::size_t size(int value) { return static_cast<std::size_t>(value); }

MlaGeometry geometry(int heads, int kv_lora = 512, int nope = 128, int rope = 64, int v = 128) {
  MlaGeometry g;
  g.num_heads = heads;
  g.kv_lora_rank = kv_lora;
  g.nope_dim = nope;
  g.rope_dim = rope;
  g.v_dim = v;
  g.softmax_scale = 1.0F / std::sqrt(static_cast<float>(nope + rope));
  g.norm_eps = 1e-6F;
  return g;
}

double dot(std::span<const double> a, std::span<const double> b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// Keys [tokens, nope + rope] and values [tokens, v] of one head in double precision.
struct Expanded {
  std::vector<double> keys;
  std::vector<double> values;
};

Expanded expand(const MlaGeometry& g, std::span<const double> latents, std::span<const double> kv_b,
                int head) {
  const std::size_t lora = size(g.kv_lora_rank);
  const std::size_t width = size(g.nope_dim + g.v_dim);
  std::vector<double> weights(lora * width);  // of the head, transposed
  for (std::size_t i = 0; i < width; ++i) {
    for (std::size_t k = 0; k < lora; ++k) {
      weights[k * width + i] = kv_b[(size(head) * width + i) * lora + k];
    }
  }
  Expanded result;
  constexpr std::size_t kLanes = 8;  // divides all widths; what the compiler makes a vector of
  for (std::size_t at = 0; at < latents.size(); at += size(g.latent_dim())) {
    const auto rope = latents.subspan(at + lora, size(g.rope_dim));
    for (std::size_t i = 0; i < width; i += kLanes) {
      double sums[kLanes] = {};
      for (std::size_t k = 0; k < lora; ++k) {
        for (std::size_t lane = 0; lane < kLanes; ++lane) {
          sums[lane] += latents[at + k] * weights[k * width + i + lane];
        }
      }
      if (i == size(g.nope_dim)) result.keys.insert(result.keys.end(), rope.begin(), rope.end());
      auto& to = i < size(g.nope_dim) ? result.keys : result.values;
      to.insert(to.end(), sums, sums + kLanes);
    }
  }
  return result;
}

// softmax(scale q k^T) v over the first `count` keys.
std::vector<double> attend(const MlaGeometry& g, std::span<const double> q, const Expanded& kv,
                           std::size_t count) {
  std::vector<double> scores(count);
  for (std::size_t j = 0; j < count; ++j) {
    scores[j] = static_cast<double>(g.softmax_scale) *
                dot(q, std::span(kv.keys).subspan(j * size(g.qk_dim()), size(g.qk_dim())));
  }
  const double highest = *std::max_element(scores.begin(), scores.end());
  double total = 0.0;
  for (double& score : scores) total += score = std::exp(score - highest);
  std::vector<double> out(size(g.v_dim));
  for (std::size_t j = 0; j < count; ++j) {
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] += scores[j] / total * kv.values[j * out.size() + i];
    }
  }
  return out;
}

// The first, a middle and the last one of many.
std::vector<int> some_of(int count, int most) {
  std::vector<int> result;
  for (int i = 0; i < std::min(count, most); ++i) {
    result.push_back(count <= most ? i : i * (count - 1) / (most - 1));
  }
  return result;
}

class ExpandedAttentionOps : public ::testing::TestWithParam<Case> {
 protected:
  bool large() const {
    return GetParam().backend->large && GetParam().weights == DType::kBF16 &&
           GetParam().cache != DType::kF32;
  }

  // Sequences in a paged cache, with what they expand to, and one layer's weights.
  struct Fixture {
    Fixture(const Case& test_case, std::mt19937_64& random_arg, const MlaGeometry& geometry_arg,
            const std::vector<int>& lengths, int page_tokens = 64)
        : random(random_arg),
          g(geometry_arg),
          device(*test_case.backend),
          cache(device, random, g, test_case.cache, lengths, {page_tokens, 2}),
          kv_b(device.tensor(
              random_values(random, size(g.num_heads * (g.nope_dim + g.v_dim) * g.kv_lora_rank),
                            1.6F / std::sqrt(static_cast<float>(g.kv_lora_rank))),
              test_case.weights, {g.num_heads, g.nope_dim + g.v_dim, g.kv_lora_rank})),
          heads(some_of(g.num_heads, 3)),
          expanded(lengths.size()) {
      const auto weights = oracle::widen(kv_b.host);
      for (int slot = 0; slot < static_cast<int>(lengths.size()); ++slot) {
        std::vector<double> latents;
        for (int position = 0; position < lengths[size(slot)]; ++position) {
          const auto row = cache.set(slot, position, random_values(random, size(g.latent_dim())));
          latents.insert(latents.end(), row.begin(), row.end());
        }
        for (const int head : heads) {
          expanded[size(slot)].push_back(expand(g, latents, weights, head));
        }
      }
      cache.flush();
    }

    // Rows from `absorbed` on of the step attend expanded, into `out`; returns [T, H, v].
    std::vector<float> run(const std::vector<StepRow>& rows, const std::vector<float>& q,
                           std::size_t absorbed = 0) {
      BatchView batch = make_batch(device, cache, rows);
      const std::size_t width = size(batch.num_tokens * g.num_heads * g.v_dim);
      const std::vector<float> poison(width, std::numeric_limits<float>::quiet_NaN());
      void* out = device.activations(poison);
      batch.rows += absorbed;
      batch.host_rows += absorbed;
      batch.num_rows -= static_cast<std::int32_t>(absorbed);
      device->expanded_attention({batch, cache.view(), g, device.activations(q), kv_b.device, out});
      return device.read_activations(out, width);
    }

    std::vector<float> queries(const std::vector<StepRow>& rows) {
      std::size_t tokens = 0;
      for (const StepRow& row : rows) tokens += size(row.count);
      return random_values(random, tokens * size(g.num_heads * g.qk_dim()), kQueryScale);
    }

    // The results of one row, whose first token is `first_token` of the step.
    void expect_row(const StepRow& row, int first_token, std::span<const double> q,
                    std::span<const float> out) {
      std::vector<double> actual;
      std::vector<double> expected;
      for (const int i : some_of(row.count, 67)) {
        for (std::size_t h = 0; h < heads.size(); ++h) {
          const std::size_t at = size((first_token + i) * g.num_heads + heads[h]);
          const auto one = attend(g, q.subspan(at * size(g.qk_dim()), size(g.qk_dim())),
                                  expanded[size(row.slot)][h], size(row.start + i + 1));
          expected.insert(expected.end(), one.begin(), one.end());
          const auto got = out.subspan(at * size(g.v_dim), size(g.v_dim));
          actual.insert(actual.end(), got.begin(), got.end());
        }
      }
      EXPECT_LT(oracle::relative_error(actual, expected), device.tolerance())
          << g.num_heads << " heads, " << row.count << " tokens after " << row.start;
    }

    void expect_rows(const std::vector<StepRow>& rows, std::size_t absorbed = 0) {
      const auto q = queries(rows);
      const auto out = run(rows, q, absorbed);
      const auto seen = device.as_seen(q);
      int first_token = 0;
      for (std::size_t r = 0; r < rows.size(); ++r) {
        if (r >= absorbed) expect_row(rows[r], first_token, seen, out);
        first_token += rows[r].count;
      }
    }

    std::mt19937_64& random;
    MlaGeometry g;
    Device device;
    PagedCache cache;
    Tensor kv_b;
    std::vector<int> heads;                       // that are looked at
    std::vector<std::vector<Expanded>> expanded;  // [slots][heads]
  };

  void expect_counts_after(int heads, int cached, const std::vector<int>& counts) {
    const int most = *std::max_element(counts.begin(), counts.end());
    Fixture fixture(GetParam(), random_, geometry(heads), {cached + most});
    for (const int count : counts) fixture.expect_rows({{0, cached, count}});
  }

  void expect_full_and_partial_tiles(int heads) {
    for (const int cached : {0, 1, 63, 64, 1000}) {
      expect_counts_after(heads, cached, {1, 2, 63, 64, 65, 128, 300});
    }
    expect_counts_after(heads, 4500, {1, 65, 300});
  }

  std::mt19937_64 random_{kSeed};
};

TEST_P(ExpandedAttentionOps, EveryQuerySeesExactlyThePositionsUpToItsOwn) {
  for (const int heads : {1, 3}) {
    for (const int cached : {0, 1, 63, 64}) expect_counts_after(heads, cached, {1, 2, 65});
  }
}

TEST_P(ExpandedAttentionOps, TilesOfQueriesMayBeFullOrNot) {
  if (!large()) GTEST_SKIP() << "production sizes";
  expect_full_and_partial_tiles(16);
}

TEST_P(ExpandedAttentionOps, HeadsMayBeAnyNumber) {
  if (!large()) GTEST_SKIP() << "production sizes";
  for (const int heads : {1, 20, 40}) expect_full_and_partial_tiles(heads);
}

// 128 heads expand 4,096 keys at a time: sums are carried over the border, which may lie among a
// step's own queries.
TEST_P(ExpandedAttentionOps, SumsAreCarriedOverPartsOfALongContext) {
  if (!large()) GTEST_SKIP() << "production sizes";
  expect_counts_after(128, 4500, {1, 2, 63, 64, 65, 128, 300});
  expect_counts_after(128, 4095, {1, 2});
  expect_counts_after(128, 8100, {300});
}

TEST_P(ExpandedAttentionOps, AFreshPromptMayBeLongerThanAPart) {
  if (!large()) GTEST_SKIP() << "production sizes";
  expect_counts_after(128, 0, {4170});
}

TEST_P(ExpandedAttentionOps, RowsOfAStepSeeTheirOwnSequences) {
  Fixture fixture(GetParam(), random_, geometry(3), {40, 131, 70, 8}, 16);
  const std::vector<StepRow> rows = {{2, 0, 70}, {0, 30, 2}, {3, 0, 8}, {1, 2, 129}};
  for (const std::size_t absorbed : {0U, 1U, 3U}) fixture.expect_rows(rows, absorbed);
}

TEST_P(ExpandedAttentionOps, ManyRowsOfRealSizesShareAStep) {
  if (!large()) GTEST_SKIP() << "production sizes";
  Fixture fixture(GetParam(), random_, geometry(40), {1, 300, 4400, 900, 5000, 129, 2}, 32);
  fixture.expect_rows({{0, 0, 1},
                       {3, 700, 200},
                       {2, 4000, 400},
                       {1, 0, 300},
                       {4, 4600, 400},
                       {5, 0, 129},
                       {6, 0, 2}},
                      /*absorbed=*/1);
  std::vector<StepRow> many;
  for (int i = 0; i < 150; ++i) many.push_back({3, 5 * i, 1 + i % 7});
  fixture.expect_rows(many);
}

TEST_P(ExpandedAttentionOps, TokensOfOtherRowsAreLeftAlone) {
  Fixture fixture(GetParam(), random_, geometry(2), {5, 70});
  const std::vector<StepRow> rows = {{0, 2, 3}, {1, 0, 70}};
  const auto out = fixture.run(rows, fixture.queries(rows), /*absorbed=*/1);
  const std::size_t width = size(fixture.g.num_heads * fixture.g.v_dim);
  for (std::size_t i = 0; i < out.size(); ++i) {
    EXPECT_EQ(std::isnan(out[i]), i < 3 * width) << "token " << i / width;
  }
}

TEST_P(ExpandedAttentionOps, ABadSequenceSpoilsItselfOnly) {
  Fixture fixture(GetParam(), random_, geometry(2), {100, 75, 200});
  const std::vector<float> bad(size(fixture.g.latent_dim()),
                               std::numeric_limits<float>::quiet_NaN());
  for (const int position : {0, 99}) fixture.cache.set(0, position, bad);
  for (int position = 0; position < 200; ++position) fixture.cache.set(2, position, bad);
  fixture.cache.flush();
  const std::vector<StepRow> rows = {{0, 0, 100}, {1, 5, 70}, {2, 100, 100}};
  const auto q = fixture.queries(rows);
  const auto out = fixture.run(rows, q);
  EXPECT_TRUE(std::isnan(out.front()));
  fixture.expect_row(rows[1], 100, fixture.device.as_seen(q), out);
  // What the bad one left behind in scratch is not seen either.
  (void)fixture.run({rows[2]}, fixture.queries({rows[2]}));
  fixture.expect_rows({rows[1]});
}

TEST_P(ExpandedAttentionOps, TheSameStepGivesTheSameBits) {
  const bool big = large();
  Fixture fixture(GetParam(), random_, geometry(big ? 40 : 2), {big ? 4600 : 90, big ? 500 : 20});
  const std::vector<StepRow> rows = {{1, 0, big ? 500 : 20}, {0, 40, big ? 300 : 50}};
  const auto q = fixture.queries(rows);
  EXPECT_EQ(fixture.run(rows, q), fixture.run(rows, q));
}

TEST_P(ExpandedAttentionOps, OtherHeadDimsAreComputedToo) {
  const int count = large() ? 300 : 70;
  for (const MlaGeometry& g : {geometry(4, 512, 192, 64, 256), geometry(5, 256, 64, 32, 64),
                               geometry(8, 128, 32, 32, 32), geometry(2, 64, 48, 16, 80)}) {
    Fixture fixture(GetParam(), random_, g, {count + 65});
    fixture.expect_rows({{0, 65, count}});
    fixture.expect_rows({{0, 0, count}});
  }
}

INSTANTIATE_TEST_SUITE_P(Conformance, ExpandedAttentionOps, ::testing::ValuesIn(all_cases()),
                         [](const auto& test) { return case_name(test.param); });

}  // namespace
}  // namespace latentd::conformance

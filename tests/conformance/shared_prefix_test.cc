// Rows that share prefixes attend as they would alone, whatever tree the prefixes form and whether
// a backend reads them once or not.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "tests/conformance/attention_layers.h"
#include "tests/conformance/device.h"
#include "tests/conformance/paged_cache.h"
#include "tests/support/mla_oracle.h"

namespace latentd::conformance {
namespace {

constexpr std::uint64_t kSeed = 20261201;
// Of a row behind its innermost prefix, its own token not counted.
constexpr int kOwnTokens[] = {0, 1, 63, 64, 65};

std::size_t size(int value) { return static_cast<std::size_t>(value); }

MlaGeometry geometry(int heads, int kv_lora, int rope) {
  MlaGeometry g;
  g.num_heads = heads;
  g.kv_lora_rank = kv_lora;
  g.rope_dim = rope;
  g.nope_dim = 128;
  g.v_dim = 128;
  g.softmax_scale = 1.0F / std::sqrt(static_cast<float>(128 + rope));
  return g;
}

// Tokens of the prefixes, outermost first.
struct Depths {
  int page_tokens;
  int outer;
  int middle;
  int inner;
};

// Groups of rows that share an outer prefix; the first half of a group shares another behind it,
// and the first quarter a third.
struct Tree {
  std::vector<StepRow> rows;  // row r is of slot r
  std::vector<PrefixView> prefixes;
  std::vector<std::int32_t> row_prefixes;

  int add_prefix(int first, int count, int tokens, int parent) {
    const int begin = parent < 0 ? 0 : prefixes[size(parent)].last_key;
    prefixes.push_back({first, count, begin, begin + tokens, parent});
    const auto self = static_cast<int>(prefixes.size()) - 1;
    std::fill_n(row_prefixes.begin() + first, count, self);
    return self;
  }

  Tree(const std::vector<int>& groups, const Depths& depths) {
    for (const int group : groups) {
      const auto first = static_cast<int>(row_prefixes.size());
      row_prefixes.resize(row_prefixes.size() + size(group), -1);
      int parent = -1;
      int members = group;
      for (const int tokens : {depths.outer, depths.middle, depths.inner}) {
        if (members >= 2 && tokens > 0) parent = add_prefix(first, members, tokens, parent);
        members /= 2;
      }
    }
    for (int r = 0; r < static_cast<int>(row_prefixes.size()); ++r) {
      const int prefix = row_prefixes[size(r)];
      const int shared = prefix < 0 ? 0 : prefixes[size(prefix)].last_key;
      rows.push_back({r, shared + kOwnTokens[r % 5], 1});
    }
  }

  // The row whose pages hold key `position` of row r.
  int owner(int r, int position) const {
    int owner = r;
    for (int p = row_prefixes[size(r)]; p >= 0; p = prefixes[size(p)].parent) {
      if (position < prefixes[size(p)].last_key) owner = prefixes[size(p)].first_row;
    }
    return owner;
  }
};

class SharedPrefix : public ::testing::TestWithParam<Case> {
 protected:
  struct Step {
    Step(Device& device, std::mt19937_64& random, const MlaGeometry& g, DType dtype,
         const Tree& tree, int page_tokens)
        : cache(device, random, g, dtype, lengths(tree), {page_tokens, 2}),
          latents(tree.rows.size()) {
      for (const PrefixView& prefix : tree.prefixes) {
        for (int r = prefix.first_row + 1; r < prefix.first_row + prefix.num_rows; ++r) {
          cache.share(prefix.first_row, r, prefix.last_key);
        }
      }
      const std::size_t width = size(g.latent_dim());
      for (const StepRow& row : tree.rows) {
        std::vector<double>& own = latents[size(row.slot)];
        for (int position = 0; position <= row.start; ++position) {
          const int owner = tree.owner(row.slot, position);
          const auto values =
              owner == row.slot
                  ? cache.set(row.slot, position, random_values(random, width))
                  : std::vector<double>(
                        latents[size(owner)].begin() + position * g.latent_dim(),
                        latents[size(owner)].begin() + (position + 1) * g.latent_dim());
          own.insert(own.end(), values.begin(), values.end());
        }
      }
      cache.flush();
      // Padded as a captured graph is: rows of nothing behind the real ones.
      std::vector<StepRow> rows = tree.rows;
      for (int i = 0; i < 3; ++i) rows.push_back({0, 0, 0});
      plain = make_batch(device, cache, rows);
      std::vector<PrefixView> prefixes = tree.prefixes;
      std::vector<std::int32_t> row_prefixes = tree.row_prefixes;
      prefixes.resize(rows.size());
      row_prefixes.resize(rows.size(), -1);
      shared = plain;
      shared.prefixes = device.array(prefixes);
      shared.row_prefixes = device.array(row_prefixes);
    }

    static std::vector<int> lengths(const Tree& tree) {
      std::vector<int> result;
      for (const StepRow& row : tree.rows) result.push_back(row.start + 1);
      return result;
    }

    PagedCache cache;
    std::vector<std::vector<double>> latents;
    BatchView plain;
    BatchView shared;
  };

  // Every vector of 16 is judged, whichever heads they are.
  void expect_as_alone(Device& device, const MlaGeometry& g, const std::vector<int>& groups,
                       const Depths& depths) {
    SCOPED_TRACE(std::to_string(g.num_heads) + " heads, pages of " +
                 std::to_string(depths.page_tokens) + ", outer prefix of " +
                 std::to_string(depths.outer));
    const Tree tree(groups, depths);
    const Step step(device, random_, g, GetParam().cache, tree, depths.page_tokens);
    const std::size_t width = size(g.latent_dim());
    const auto q = random_values(random_, size(step.plain.num_tokens * g.num_heads) * width, 0.3F);
    const auto plain = attend_in_layers(device, g, step.plain, step.cache.view(), q);
    const auto shared = attend_in_layers(device, g, step.shared, step.cache.view(), q);
    const auto again = attend_in_layers(device, g, step.shared, step.cache.view(), q);
    EXPECT_EQ(shared, again) << "another run has other bits";
    if (GetParam().backend->batch_invariant) {
      EXPECT_EQ(plain, shared) << "neighbours have a say";
    }

    const auto seen = device.as_seen(q);
    std::vector<double> expected;
    std::vector<double> actual;
    std::vector<double> unshared;
    const int stride = std::max(1, step.plain.num_tokens * g.num_heads / 400) | 1;
    for (int v = 0; v < step.plain.num_tokens * g.num_heads; v += stride) {
      const auto one = oracle::attend_latents(g.kv_lora_rank, g.softmax_scale,
                                              std::span(seen).subspan(size(v) * width, width),
                                              step.latents[size(v / g.num_heads)]);
      expected.insert(expected.end(), one.begin(), one.end());
      for (int c = 0; c < g.kv_lora_rank; ++c) {
        actual.push_back(shared[size(v * g.kv_lora_rank + c)]);
        unshared.push_back(plain[size(v * g.kv_lora_rank + c)]);
      }
    }
    EXPECT_LT(oracle::relative_error(actual, expected), device.tolerance());
    EXPECT_LT(oracle::relative_error(unshared, expected), device.tolerance());
    EXPECT_TRUE(
        std::all_of(shared.begin(), shared.end(), [](float x) { return std::isfinite(x); }));
  }

  std::mt19937_64 random_{kSeed};
};

TEST_P(SharedPrefix, IsAttendedToAsWithoutSharing) {
  if (GetParam().weights != (GetParam().cache == DType::kF32 ? DType::kF32 : DType::kBF16)) {
    GTEST_SKIP() << "weights take no part";
  }
  Device device(*GetParam().backend);
  if (!GetParam().backend->large) {
    const MlaGeometry g = geometry(2, 64, 16);
    expect_as_alone(device, g, {1, 2, 3, 8}, {16, 112, 16, 48});
    expect_as_alone(device, g, {4, 2}, {64, 64, 192, 0});
    return;
  }
  for (const int heads : {16, 20, 128}) {
    const MlaGeometry g = geometry(heads, 512, 64);
    expect_as_alone(device, g, {1, 2, 3, 32}, {64, 192, 128, 64});
    expect_as_alone(device, g, {32, 3, 2, 1}, {16, 112, 16, 208});
  }
  const MlaGeometry g = geometry(16, 512, 64);
  expect_as_alone(device, g, {32}, {64, 4096, 0, 0});
  expect_as_alone(device, g, {2, 2, 2, 2, 2, 2, 2, 2}, {64, 1024, 0, 0});
  expect_as_alone(device, g, {4}, {64, 64, 0, 0});
  expect_as_alone(device, g, {2, 1}, {32, 32, 0, 0});
}

INSTANTIATE_TEST_SUITE_P(Conformance, SharedPrefix, ::testing::ValuesIn(all_cases()),
                         [](const auto& test) { return case_name(test.param); });

}  // namespace
}  // namespace latentd::conformance

// rope_append, the absorbed and the expanded attention against double precision.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "tests/conformance/attention_layers.h"
#include "tests/conformance/device.h"
#include "tests/conformance/paged_cache.h"
#include "tests/support/mla_oracle.h"

namespace latentd::conformance {
namespace {

constexpr std::uint64_t kSeed = 20261125;

MlaGeometry geometry(int heads, int kv_lora, int rope, int nope, int v) {
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

std::size_t size(int value) { return static_cast<std::size_t>(value); }

// One of the cases that differ in the dtype of weights only.
bool of_its_cache_alone(const Case& test_case) {
  return test_case.weights == (test_case.cache == DType::kF32 ? test_case.cache : DType::kBF16);
}

std::string describe(const MlaGeometry& g, const StepRow& row) {
  return std::to_string(g.num_heads) + " heads, " + std::to_string(g.kv_lora_rank) + "+" +
         std::to_string(g.rope_dim) + ", " + std::to_string(row.count) + " tokens after " +
         std::to_string(row.start);
}

class AttentionOps : public ::testing::TestWithParam<Case> {
 protected:
  // A step whose rows' contexts and own latents are all in the cache.
  struct Step {
    Step(Device& device, std::mt19937_64& random, const MlaGeometry& g, DType dtype,
         const std::vector<StepRow>& step_rows, int page_tokens = 64, bool grow = false)
        : rows(step_rows), cache(device, random, g, dtype, lengths(step_rows), {page_tokens, 2}) {
      latents.resize(rows.size());
      for (std::size_t r = 0; r < rows.size(); ++r) {
        for (int position = 0; position < rows[r].start + rows[r].count; ++position) {
          const float most = grow ? static_cast<float>(position + 1) / 300.0F : 1.0F;
          const auto row =
              cache.set(rows[r].slot, position, random_values(random, size(g.latent_dim()), most));
          latents[r].insert(latents[r].end(), row.begin(), row.end());
        }
      }
      cache.flush();
      batch = make_batch(device, cache, rows);
    }

    static std::vector<int> lengths(const std::vector<StepRow>& rows) {
      std::vector<int> result(rows.size());
      for (const StepRow& row : rows) result[size(row.slot)] = row.start + row.count;
      return result;
    }

    // Cached rows that token `i` of row `r` sees.
    std::span<const double> visible(const MlaGeometry& g, std::size_t r, int i) const {
      return std::span(latents[r]).first(size(rows[r].start + i + 1) * size(g.latent_dim()));
    }

    std::vector<StepRow> rows;
    PagedCache cache;
    std::vector<std::vector<double>> latents;
    BatchView batch;
  };

  std::mt19937_64 random_{kSeed};
};

TEST_P(AttentionOps, AbsorbedAttentionSeesExactlyThePositionsUpToItsOwn) {
  Device device(*GetParam().backend);
  const std::vector<MlaGeometry> geometries = {
      geometry(16, 512, 64, 128, 128), geometry(1, 256, 32, 64, 64), geometry(3, 128, 32, 64, 64),
      geometry(20, 128, 32, 64, 64)};
  for (const MlaGeometry& g : geometries) {
    for (const StepRow row : {StepRow{0, 0, 1},
                              {0, 1, 1},
                              {0, 63, 1},
                              {0, 64, 2},
                              {0, 65, 1},
                              {0, 1000, 2},
                              {0, 0, 70},
                              {0, 60, 9}}) {
      SCOPED_TRACE(describe(g, row));
      const Step step(device, random_, g, GetParam().cache, {row});
      const std::size_t rows = size(row.count * g.num_heads);
      const std::size_t width = size(g.latent_dim());
      const auto q = random_values(random_, rows * width, 0.3F);
      const auto actual = to_double(attend_in_layers(device, g, step.batch, step.cache.view(), q));
      const auto seen = device.as_seen(q);
      std::vector<double> expected;
      for (std::size_t i = 0; i < rows; ++i) {
        const auto one = oracle::attend_latents(
            g.kv_lora_rank, g.softmax_scale, std::span(seen).subspan(i * width, width),
            step.visible(g, 0, static_cast<int>(i) / g.num_heads));
        expected.insert(expected.end(), one.begin(), one.end());
      }
      EXPECT_LT(oracle::relative_error(actual, expected), device.tolerance());
    }
  }
}

// Absorbed attention over a step of several rows: the outputs, and what they should be for every
// `stride`th query vector.
struct AbsorbedResult {
  std::vector<double> actual;
  std::vector<double> expected;
  std::vector<float> all;
};

template <typename Visible>
AbsorbedResult absorbed_result(Device& device, const MlaGeometry& g, const BatchView& batch,
                               const CacheView& cache, const std::vector<float>& q, int stride,
                               const Visible& visible) {
  const std::size_t vectors = size(batch.num_tokens * g.num_heads);
  const std::size_t width = size(g.latent_dim());
  const std::size_t out_width = size(g.kv_lora_rank);
  AbsorbedResult result;
  result.all = attend_in_layers(device, g, batch, cache, q);
  const auto seen = device.as_seen(q);
  for (std::size_t i = 0; i < vectors; i += size(stride)) {
    const auto rows = visible(static_cast<int>(i) / g.num_heads);
    if (rows.empty()) continue;
    const auto one = oracle::attend_latents(g.kv_lora_rank, g.softmax_scale,
                                            std::span(seen).subspan(i * width, width), rows);
    result.expected.insert(result.expected.end(), one.begin(), one.end());
    for (std::size_t c = 0; c < out_width; ++c) {
      result.actual.push_back(static_cast<double>(result.all[i * out_width + c]));
    }
  }
  return result;
}

// The geometry that a device may have a kernel of its own for. Long contexts and many heads where
// the device is fast, and one dtype of weights, which take no part here.
TEST_P(AttentionOps, AbsorbedAttentionAt512And64) {
  Device device(*GetParam().backend);
  const bool gpu = device->name() == "cuda";
  if (!of_its_cache_alone(GetParam())) GTEST_SKIP() << "weights take no part";
  struct Work {
    StepRow row;
    int page_tokens;
    bool quick;
  };
  const std::vector<Work> works = {
      {{0, 0, 1}, 64, true},     {{0, 1, 1}, 32, false},    {{0, 62, 2}, 16, true},
      {{0, 63, 1}, 64, false},   {{0, 64, 1}, 64, false},   {{0, 65, 4}, 32, true},
      {{0, 1000, 1}, 16, false}, {{0, 1000, 3}, 64, false}, {{0, 30, 70}, 64, false},
      {{0, 8190, 1}, 64, false}, {{0, 8189, 2}, 16, false}, {{0, 900, 200}, 128, false}};
  const std::vector<int> few = {1, 20};
  const std::vector<int> many = {1, 16, 20, 40, 64, 128};
  for (const int heads : gpu ? many : few) {
    const MlaGeometry g = geometry(heads, 512, 64, 128, 128);
    for (const Work& work : works) {
      if (!gpu && !work.quick) continue;
      SCOPED_TRACE(describe(g, work.row) + ", pages of " + std::to_string(work.page_tokens));
      const Step step(device, random_, g, GetParam().cache, {work.row}, work.page_tokens);
      const int vectors = work.row.count * heads;
      const auto q = random_values(random_, size(vectors) * size(g.latent_dim()), 0.3F);
      const std::int64_t pairs = std::int64_t{vectors} * (work.row.start + work.row.count);
      // Odd, so that all heads are met.
      const int stride = static_cast<int>(pairs / 20000) | 1;
      const AbsorbedResult result =
          absorbed_result(device, g, step.batch, step.cache.view(), q, stride,
                          [&](int token) { return step.visible(g, 0, token); });
      EXPECT_LT(oracle::relative_error(result.actual, result.expected), device.tolerance());
      EXPECT_TRUE(std::all_of(result.all.begin(), result.all.end(),
                              [](float value) { return std::isfinite(value); }));
    }
  }
}

TEST_P(AttentionOps, AbsorbedAttentionMixesLongAndShortRows) {
  Device device(*GetParam().backend);
  if (!of_its_cache_alone(GetParam())) GTEST_SKIP() << "weights take no part";
  const bool gpu = device->name() == "cuda";
  const MlaGeometry g = geometry(gpu ? 16 : 2, 512, 64, 128, 128);
  std::vector<StepRow> rows;
  for (int i = 0; i < (gpu ? 65 : 9); ++i) {
    const int length = i == 5 ? (gpu ? 8191 : 1500) : i * 37 % 500;
    rows.push_back({i, length, i % 4 == 3 ? 3 : 1});
  }
  rows.push_back({static_cast<int>(rows.size()), 100, gpu ? 90 : 9});
  const Step step(device, random_, g, GetParam().cache, rows);
  std::vector<std::pair<std::size_t, int>> owners;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    for (int i = 0; i < rows[r].count; ++i) owners.emplace_back(r, i);
  }
  const auto q = random_values(
      random_, size(step.batch.num_tokens * g.num_heads) * size(g.latent_dim()), 0.3F);
  const AbsorbedResult result =
      absorbed_result(device, g, step.batch, step.cache.view(), q, gpu ? 5 : 1, [&](int token) {
        const auto [r, i] = owners[size(token)];
        return step.visible(g, r, i);
      });
  EXPECT_LT(oracle::relative_error(result.actual, result.expected), device.tolerance());
}

// The highest score of each 64 keys exceeds the one before by many powers of two.
TEST_P(AttentionOps, AbsorbedAttentionWhereScoresGrow) {
  Device device(*GetParam().backend);
  if (!of_its_cache_alone(GetParam())) GTEST_SKIP() << "weights take no part";
  for (const int heads : {16, 20, 70}) {
    const MlaGeometry g = geometry(heads, 512, 64, 128, 128);
    SCOPED_TRACE(heads);
    const std::vector<StepRow> rows = {{0, 1000, 1}, {1, 130, 3}, {2, 63, 1}};
    const Step step(device, random_, g, GetParam().cache, rows, 64, true);
    const std::vector<std::pair<std::size_t, int>> owners = {
        {0, 0}, {1, 0}, {1, 1}, {1, 2}, {2, 0}};
    const auto q = random_values(
        random_, size(step.batch.num_tokens * g.num_heads) * size(g.latent_dim()), 20.0F);
    const AbsorbedResult result =
        absorbed_result(device, g, step.batch, step.cache.view(), q, 1, [&](int token) {
          const auto [r, i] = owners[size(token)];
          return step.visible(g, r, i);
        });
    // Scores reach 90, of which fp32 keeps 1e-5.
    EXPECT_LT(oracle::relative_error(result.actual, result.expected),
              std::max(device.tolerance(), 1e-4));
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

TEST_P(AttentionOps, PaddingChangesNoBitAndLeavesTheCacheAlone) {
  Device device(*GetParam().backend);
  for (const MlaGeometry& g : {geometry(4, 512, 64, 16, 16), geometry(3, 40, 8, 12, 8)}) {
    SCOPED_TRACE(describe(g, {}));
    const Step step(device, random_, g, GetParam().cache,
                    {{1, 62, 2}, {0, 0, 1}, {2, 300, 1}, {3, 700, 1}});
    const int real = step.batch.num_tokens;
    const BatchView batch = padded(device, step.batch, 7, 8);
    const std::size_t heads = size(batch.num_tokens * g.num_heads);
    const auto q = random_values(random_, heads * size(g.qk_dim()));
    const auto absorbed = random_values(random_, heads * size(g.latent_dim()), 0.3F);
    const auto kv_a = random_values(random_, size(batch.num_tokens * g.latent_dim()));
    const std::vector<float> rotation(size(800 * g.rope_dim / 2), 0.6F);
    const Tensor norm = device.tensor(random_values(random_, size(g.kv_lora_rank)),
                                      GetParam().weights, {g.kv_lora_rank});
    std::vector<std::vector<std::byte>> pools;
    std::vector<std::vector<float>> outs;
    for (const BatchView& one : {step.batch, batch}) {
      PagedCache cache = step.cache;
      cache.flush();
      device->rope_append({one, cache.view(), g, device.activations(q), device.activations(kv_a),
                           norm.device, device.array(rotation), device.array(rotation)});
      void* out = device.empty_activations(heads * size(g.kv_lora_rank));
      device->plan_attention({one, g, cache.view().page_tokens, GetParam().cache});
      device->absorbed_attention({one, cache.view(), g, device.activations(absorbed), out});
      pools.push_back(cache.device_pool());
      outs.push_back(device.read_activations(out, size(real * g.num_heads * g.kv_lora_rank)));
      const auto all = device.read_activations(out, heads * size(g.kv_lora_rank));
      EXPECT_TRUE(std::all_of(all.begin(), all.end(), [](float x) { return std::isfinite(x); }));
    }
    EXPECT_EQ(pools[0], pools[1]);
    EXPECT_EQ(outs[0], outs[1]);
  }
}

// Both forms of a whole step against the oracle, which is neither.
void expect_forms_agree(Device& device, std::mt19937_64& random, const MlaGeometry& g,
                        const BatchView& batch, const CacheView& cache, DType weights,
                        const std::function<std::span<const double>(int token)>& visible) {
  const std::size_t rows = size(batch.num_tokens * g.num_heads);
  const auto q = random_values(random, rows * size(g.qk_dim()));
  const Tensor kv_b = device.tensor(
      random_values(random, size(g.num_heads * (g.nope_dim + g.v_dim) * g.kv_lora_rank), 0.1F),
      weights, {g.num_heads, g.nope_dim + g.v_dim, g.kv_lora_rank});
  void* device_q = device.activations(q);
  void* absorbed = device.empty_activations(rows * size(g.latent_dim()));
  void* latent = device.empty_activations(rows * size(g.kv_lora_rank));
  void* out = device.empty_activations(rows * size(g.v_dim));
  device->absorb_query({g, device_q, kv_b.device, absorbed, batch.num_tokens});
  device->plan_attention({batch, g, cache.page_tokens, cache.dtype});
  device->absorbed_attention({batch, cache, g, absorbed, latent});
  device->project_value({g, latent, kv_b.device, out, batch.num_tokens});
  void* expanded = device.empty_activations(rows * size(g.v_dim));
  device->expanded_attention({batch, cache, g, device_q, kv_b.device, expanded});

  const oracle::AttentionShape shape{g.num_heads, g.kv_lora_rank,
                                     g.nope_dim,  g.rope_dim,
                                     g.v_dim,     static_cast<double>(g.softmax_scale)};
  const auto seen = device.as_seen(q);
  std::vector<double> expected;
  for (int t = 0; t < batch.num_tokens; ++t) {
    const auto one =
        oracle::attention(shape, std::span(seen).subspan(size(t) * shape.q_size(), shape.q_size()),
                          visible(t), kv_b.host);
    expected.insert(expected.end(), one.begin(), one.end());
  }
  EXPECT_LT(oracle::relative_error(to_double(device.read_activations(out, rows * size(g.v_dim))),
                                   expected),
            device.tolerance())
      << "absorbed";
  EXPECT_LT(oracle::relative_error(
                to_double(device.read_activations(expanded, rows * size(g.v_dim))), expected),
            device.tolerance())
      << "expanded";
}

TEST_P(AttentionOps, AbsorbedAndExpandedFormsAgreeWithTheOracle) {
  Device device(*GetParam().backend);
  const std::vector<MlaGeometry> geometries = {
      geometry(1, 512, 64, 24, 16), geometry(3, 256, 32, 16, 24), geometry(20, 20, 6, 5, 7)};
  for (const MlaGeometry& g : geometries) {
    for (const StepRow row :
         {StepRow{0, 0, 1}, {0, 1, 2}, {0, 63, 1}, {0, 64, 1}, {0, 65, 2}, {0, 50, 20}}) {
      SCOPED_TRACE(describe(g, row));
      const Step step(device, random_, g, GetParam().cache, {row});
      expect_forms_agree(device, random_, g, step.batch, step.cache.view(), GetParam().weights,
                         [&](int token) { return step.visible(g, 0, token); });
    }
  }
}

TEST_P(AttentionOps, FormsAgreeOverALongContextAndSmallPages) {
  Device device(*GetParam().backend);
  const MlaGeometry g = geometry(2, 32, 8, 12, 12);
  for (const int page_tokens : {16, 32, 64}) {
    SCOPED_TRACE(page_tokens);
    const Step step(device, random_, g, GetParam().cache, {{0, 1000, 3}}, page_tokens);
    expect_forms_agree(device, random_, g, step.batch, step.cache.view(), GetParam().weights,
                       [&](int token) { return step.visible(g, 0, token); });
  }
}

TEST_P(AttentionOps, RowsOfAStepSeeTheirOwnSequences) {
  Device device(*GetParam().backend);
  const MlaGeometry g = geometry(3, 48, 16, 8, 12);
  const Step step(device, random_, g, GetParam().cache,
                  {{2, 0, 5}, {0, 130, 1}, {3, 64, 2}, {1, 7, 70}});
  std::vector<std::pair<std::size_t, int>> owners;
  for (std::size_t r = 0; r < step.rows.size(); ++r) {
    for (int i = 0; i < step.rows[r].count; ++i) owners.emplace_back(r, i);
  }
  expect_forms_agree(device, random_, g, step.batch, step.cache.view(), GetParam().weights,
                     [&](int token) {
                       const auto [r, i] = owners[size(token)];
                       return step.visible(g, r, i);
                     });
}

TEST_P(AttentionOps, RopeAppendRotatesQueriesAndWritesLatents) {
  Device device(*GetParam().backend);
  for (const bool interleaved : {true, false}) {
    SCOPED_TRACE(interleaved ? "interleaved" : "halves");
    MlaGeometry g = geometry(3, 40, 8, 12, 8);
    g.rope_interleaved = interleaved;
    RopeConfig rope;
    rope.interleaved = interleaved;
    constexpr int kPositions = 200;
    std::vector<float> cosine;
    std::vector<float> sine;
    for (int position = 0; position < kPositions; ++position) {
      for (int i = 0; i < g.rope_dim / 2; ++i) {
        const double angle = position * std::pow(rope.theta, -2.0 * i / g.rope_dim);
        cosine.push_back(static_cast<float>(std::cos(angle)));
        sine.push_back(static_cast<float>(std::sin(angle)));
      }
    }
    const std::vector<StepRow> rows = {{1, 62, 5}, {0, 0, 1}, {2, 150, 30}};
    PagedCache cache(device, random_, g, GetParam().cache, {1, 67, 180});
    const BatchView batch = make_batch(device, cache, rows);
    const std::size_t tokens = size(batch.num_tokens);
    const auto q = random_values(random_, tokens * size(g.num_heads * g.qk_dim()));
    const auto kv_a = random_values(random_, tokens * size(g.latent_dim()), 2.0F);
    const Tensor norm = device.tensor(random_values(random_, size(g.kv_lora_rank)),
                                      GetParam().weights, {g.kv_lora_rank});
    void* device_q = device.activations(q);
    device->rope_append({batch, cache.view(), g, device_q, device.activations(kv_a), norm.device,
                         device.array(cosine), device.array(sine)});

    auto expected_q = device.as_seen(q);
    const auto seen_kv = device.as_seen(kv_a);
    const double cache_tolerance = rounding_of(GetParam().cache, device.tolerance());
    std::size_t t = 0;
    for (const StepRow& row : rows) {
      for (int i = 0; i < row.count; ++i, ++t) {
        const int position = row.start + i;
        for (int h = 0; h < g.num_heads; ++h) {
          oracle::rope(
              std::span(expected_q)
                  .subspan((t * size(g.num_heads) + size(h)) * size(g.qk_dim()) + size(g.nope_dim),
                           size(g.rope_dim)),
              position, rope);
        }
        const auto row_in =
            std::span(seen_kv).subspan(t * size(g.latent_dim()), size(g.latent_dim()));
        auto expected = oracle::rms_norm(row_in.first(size(g.kv_lora_rank)), norm.host, 1e-6);
        std::vector<double> key(row_in.begin() + g.kv_lora_rank, row_in.end());
        oracle::rope(key, position, rope);
        expected.insert(expected.end(), key.begin(), key.end());
        EXPECT_LT(oracle::relative_error(cache.device_row(row.slot, position), expected),
                  cache_tolerance);
      }
    }
    const auto actual_q = to_double(device.read_activations(device_q, q.size()));
    EXPECT_LT(oracle::relative_error(actual_q, expected_q), device.tolerance());
  }
}

INSTANTIATE_TEST_SUITE_P(Conformance, AttentionOps, ::testing::ValuesIn(all_cases()),
                         [](const auto& test) { return case_name(test.param); });

}  // namespace
}  // namespace latentd::conformance

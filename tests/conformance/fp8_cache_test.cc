// What an fp8 cache adds: how latents are rounded and where they land, what is lost by it, and that
// what must be found is still found.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "tests/conformance/device.h"
#include "tests/conformance/paged_cache.h"
#include "tests/support/fp8_oracle.h"
#include "tests/support/mla_oracle.h"

namespace latentd::conformance {
namespace {

constexpr std::uint64_t kSeed = 20261130;
constexpr int kGroup = 128;

std::size_t size(int value) { return static_cast<std::size_t>(value); }

MlaGeometry geometry(int heads, int kv_lora, int rope) {
  MlaGeometry g;
  g.num_heads = heads;
  g.kv_lora_rank = kv_lora;
  g.nope_dim = 16;
  g.rope_dim = rope;
  g.v_dim = 16;
  g.softmax_scale = 1.0F / std::sqrt(static_cast<float>(16 + rope));
  g.norm_eps = 1e-6F;
  return g;
}

// DeepSeek's, MiniCPM3's, the bundled model's, the tiny checkpoints', and groups that end early.
std::vector<MlaGeometry> geometries() {
  return {geometry(2, 512, 64), geometry(3, 256, 32), geometry(2, 128, 32), geometry(1, 32, 16),
          geometry(2, 48, 16),  geometry(2, 129, 4),  geometry(1, 200, 8)};
}

class Fp8Cache : public ::testing::TestWithParam<const BackendUnderTest*> {
 protected:
  void SetUp() override {
    const auto& caches = GetParam()->caches;
    if (std::find(caches.begin(), caches.end(), DType::kF8E4M3) == caches.end()) {
      GTEST_SKIP() << "no fp8 cache";
    }
  }

  // Appends the step's tokens without rotating them.
  static void append(Device& device, const MlaGeometry& g, const BatchView& batch,
                     const PagedCache& cache, const std::vector<float>& kv_a,
                     const std::vector<float>& norm) {
    const std::size_t q = size(batch.num_tokens * g.num_heads * g.qk_dim());
    const std::size_t angles = size(1200 * g.rope_dim / 2);
    device->rope_append({batch, cache.view(), g, device.activations(std::vector<float>(q)),
                         device.activations(kv_a),
                         device.tensor(norm, DType::kF32, {g.kv_lora_rank}).device,
                         device.array(std::vector<float>(angles, 1.0F)),
                         device.array(std::vector<float>(angles, 0.0F))});
  }

  // The rows that append() should round, in double precision.
  static std::vector<std::vector<double>> unrounded_rows(Device& device, const MlaGeometry& g,
                                                         const std::vector<float>& kv_a,
                                                         const std::vector<float>& norm) {
    const TensorView weight =
        make_tensor_view(const_cast<float*>(norm.data()), DType::kF32, {g.kv_lora_rank});
    const auto seen = device.as_seen(kv_a);
    std::vector<std::vector<double>> rows;
    for (std::size_t at = 0; at < seen.size(); at += size(g.latent_dim())) {
      const auto row = std::span(seen).subspan(at, size(g.latent_dim()));
      rows.push_back(oracle::rms_norm(row.first(size(g.kv_lora_rank)), weight, 1e-6));
      rows.back().insert(rows.back().end(), row.begin() + g.kv_lora_rank, row.end());
    }
    return rows;
  }

  // Norm weights that make groups, and elements within a group, differ by many powers of two.
  std::vector<float> uneven_norm(int kv_lora) {
    std::vector<float> norm = random_values(random_, size(kv_lora));
    for (int i = 0; i < kv_lora; ++i) {
      const int group = i / kGroup;
      norm[size(i)] *= std::ldexp(1.0F, 7 * (group % 3) - 11 - i % 13);
      if (group == 1) norm[size(i)] = 0.0F;
    }
    return norm;
  }

  std::mt19937_64 random_{kSeed};
};

TEST_P(Fp8Cache, AppendStoresTheNearestCodesUnderTheSmallestScale) {
  Device device(*GetParam());
  for (const MlaGeometry& g : geometries()) {
    SCOPED_TRACE(::testing::Message() << g.kv_lora_rank << "+" << g.rope_dim);
    PagedCache cache(device, random_, g, DType::kF8E4M3, {70, 3});
    const std::vector<StepRow> rows = {{1, 0, 3}, {0, 62, 5}};
    const auto kv_a = random_values(random_, 8 * size(g.latent_dim()), 3.0F);
    const auto norm = uneven_norm(g.kv_lora_rank);
    append(device, g, make_batch(device, cache, rows), cache, kv_a, norm);

    const auto expected = unrounded_rows(device, g, kv_a, norm);
    for (int t = 0; t < 8; ++t) {
      const auto& row = expected[size(t)];
      const auto stored = t < 3 ? cache.device_row(1, t) : cache.device_row(0, 59 + t);
      const auto scales = oracle::quantize(std::span(row).first(size(g.kv_lora_rank))).scales;
      for (int i = 0; i < g.kv_lora_rank; ++i) {
        // Half a unit of 4 bits, and of the subnormal codes; the norm is computed in fp32.
        const double bound = std::abs(row[size(i)]) * 0x1.001p-4 +
                             static_cast<double>(scales[size(i / kGroup)]) * 0x1p-10;
        ASSERT_NEAR(stored[size(i)], row[size(i)], bound) << "token " << t << ", latent " << i;
      }
      for (int i = g.kv_lora_rank; i < g.latent_dim(); ++i) {
        ASSERT_NEAR(stored[size(i)], row[size(i)], std::abs(row[size(i)]) * 0x1p-8);
      }
    }
  }
}

// Whatever lies in the pool before, the same bytes are written, and as many as a token costs.
TEST_P(Fp8Cache, AppendWritesTheBytesOfItsTokensAndNoOther) {
  Device device(*GetParam());
  for (const MlaGeometry& g : geometries()) {
    SCOPED_TRACE(::testing::Message() << g.kv_lora_rank << "+" << g.rope_dim);
    const auto kv_a = random_values(random_, 7 * size(g.latent_dim()));
    const std::vector<float> norm(size(g.kv_lora_rank), 1.0F);
    for (const int page_tokens : {16, 32, 64}) {
      std::vector<std::vector<std::byte>> pools;
      std::size_t token_bytes = 0;
      for (const std::byte fill : {std::byte{0xff}, std::byte{0x00}}) {
        std::mt19937_64 pages(kSeed);
        PagedCache cache(device, pages, g, DType::kF8E4M3, {66, 40}, {page_tokens, 3, fill});
        append(device, g, make_batch(device, cache, {{0, 60, 6}, {1, 16, 1}}), cache, kv_a, norm);
        pools.push_back(cache.device_pool());
        token_bytes = cache.layout().bytes_per_token_and_layer();
      }
      std::size_t written = 0;
      for (std::size_t i = 0; i < pools[0].size(); ++i) {
        if (pools[0][i] == pools[1][i]) {
          ++written;
        } else {
          ASSERT_EQ(pools[0][i], std::byte{0xff}) << i;
          ASSERT_EQ(pools[1][i], std::byte{0x00}) << i;
        }
      }
      EXPECT_EQ(written, 7 * token_bytes);
    }
  }
}

// sum_j softmax(scale q . c_j) c_j over the first kv_lora values of the rows.
std::vector<double> attend(const MlaGeometry& g, std::span<const double> q,
                           const std::vector<std::vector<double>>& rows) {
  std::vector<double> scores;
  for (const auto& row : rows) {
    double score = 0.0;
    for (std::size_t i = 0; i < row.size(); ++i) score += q[i] * row[i];
    scores.push_back(score * static_cast<double>(g.softmax_scale));
  }
  const double highest = *std::max_element(scores.begin(), scores.end());
  double total = 0.0;
  for (double& score : scores) total += score = std::exp(score - highest);
  std::vector<double> out(size(g.kv_lora_rank));
  for (std::size_t j = 0; j < rows.size(); ++j) {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] += scores[j] / total * rows[j][i];
  }
  return out;
}

std::vector<float> absorbed(Device& device, const MlaGeometry& g, const BatchView& batch,
                            const CacheView& cache, const std::vector<float>& q) {
  const std::size_t vectors = size(batch.num_tokens * g.num_heads);
  void* out = device.empty_activations(vectors * size(g.kv_lora_rank));
  device->plan_attention({batch, g, cache.page_tokens, cache.dtype});
  device->absorbed_attention({batch, cache, g, device.activations(q), out});
  return device.read_activations(out, vectors * size(g.kv_lora_rank));
}

// Append and attention together against latents that were never rounded.
TEST_P(Fp8Cache, AttentionLosesWhatFourBitsLose) {
  Device device(*GetParam());
  for (const MlaGeometry& g : geometries()) {
    SCOPED_TRACE(::testing::Message() << g.kv_lora_rank << "+" << g.rope_dim);
    constexpr int kTokens = 65;
    PagedCache cache(device, random_, g, DType::kF8E4M3, {kTokens + 1}, {16, 2});
    const auto kv_a = random_values(random_, kTokens * size(g.latent_dim()));
    const std::vector<float> norm(size(g.kv_lora_rank), 1.0F);
    append(device, g, make_batch(device, cache, {{0, 0, kTokens}}), cache, kv_a, norm);
    const auto q = random_values(random_, size(g.num_heads * g.latent_dim()), 0.3F);
    const auto actual = to_double(
        absorbed(device, g, make_batch(device, cache, {{0, kTokens - 1, 1}}), cache.view(), q));

    const auto rows = unrounded_rows(device, g, kv_a, norm);
    const auto seen = device.as_seen(q);
    std::vector<double> expected;
    for (int h = 0; h < g.num_heads; ++h) {
      const auto one =
          attend(g, std::span(seen).subspan(size(h * g.latent_dim()), size(g.latent_dim())), rows);
      expected.insert(expected.end(), one.begin(), one.end());
    }
    const double error = oracle::relative_error(actual, expected);
    EXPECT_LT(error, 5e-2);
    EXPECT_GT(error, 1e-4) << "nothing was rounded";
  }
}

// A host that widens exactly adds nothing of its own: the bits are those over an fp32 cache that
// holds the stored values.
TEST_P(Fp8Cache, AttentionHasTheBitsOfAnFp32CacheOfTheSameValues) {
  Device device(*GetParam());
  if (device->name() != "cpu") GTEST_SKIP() << "sums may be formed in another order";
  for (const MlaGeometry& g : geometries()) {
    SCOPED_TRACE(::testing::Message() << g.kv_lora_rank << "+" << g.rope_dim);
    PagedCache narrow(device, random_, g, DType::kF8E4M3, {131, 64}, {32, 2});
    PagedCache wide(device, random_, g, DType::kF32, {131, 64}, {64, 3});
    for (const auto& [slot, length] : {std::pair(0, 131), std::pair(1, 64)}) {
      for (int position = 0; position < length; ++position) {
        const auto stored =
            narrow.set(slot, position, random_values(random_, size(g.latent_dim()), 20.0F));
        wide.set(slot, position, std::vector<float>(stored.begin(), stored.end()));
      }
    }
    narrow.flush();
    wide.flush();
    const std::vector<StepRow> rows = {{0, 128, 3}, {1, 63, 1}};
    const auto q = random_values(random_, 4 * size(g.num_heads * g.latent_dim()), 0.1F);
    EXPECT_EQ(absorbed(device, g, make_batch(device, narrow, rows), narrow.view(), q),
              absorbed(device, g, make_batch(device, wide, rows), wide.view(), q));
  }
}

TEST_P(Fp8Cache, ANaNOrAnInfinitySpoilsItsOwnSequenceAndIsSeen) {
  Device device(*GetParam());
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  for (const auto& [bad, g] : {std::pair(kNaN, geometry(2, 200, 8)),
                               {kInfinity, geometry(2, 200, 8)},
                               {kNaN, geometry(2, 512, 64)},
                               {kInfinity, geometry(2, 512, 64)}}) {
    SCOPED_TRACE(::testing::Message() << bad << " in " << g.kv_lora_rank);
    PagedCache cache(device, random_, g, DType::kF8E4M3, {3, 3});
    const BatchView batch = make_batch(device, cache, {{0, 0, 3}, {1, 0, 3}});
    auto kv_a = random_values(random_, 6 * size(g.latent_dim()));
    kv_a[size(g.latent_dim()) + 150] = bad;  // the second token of the first sequence
    append(device, g, batch, cache, kv_a, std::vector<float>(size(g.kv_lora_rank), 1.0F));
    // The first token by itself: others of its row may meet the second's latents under a weight of
    // 0.
    const BatchView rows = make_batch(device, cache, {{0, 0, 1}, {0, 1, 2}, {1, 0, 3}});
    const auto out = absorbed(device, g, rows, cache.view(),
                              random_values(random_, 6 * size(g.num_heads * g.latent_dim())));
    const std::size_t token = size(g.num_heads * g.kv_lora_rank);
    const auto finite = [](float x) { return std::isfinite(x); };
    EXPECT_TRUE(std::all_of(out.begin(), out.begin() + static_cast<int>(token), finite));
    EXPECT_TRUE(std::isnan(out[token + 150]));
    EXPECT_TRUE(std::isnan(out[2 * token + 150]));
    EXPECT_TRUE(std::all_of(out.begin() + 3 * static_cast<int>(token), out.end(), finite));
  }
}

// A needle a head among random rows, each beside rows that resemble it: the row nearest to what
// attention returns is the needle, in bf16 and in fp8.
TEST_P(Fp8Cache, AttentionFindsNeedlesInALongContextAsBf16Does) {
  Device device(*GetParam());
  constexpr int kTokens = 4096;
  constexpr int kTwins = 7;
  for (MlaGeometry g : {geometry(12, 512, 64), geometry(12, 256, 32), geometry(12, 128, 32)}) {
    SCOPED_TRACE(::testing::Message() << g.kv_lora_rank << "+" << g.rope_dim);
    std::vector<int> needles = {0, 63, 64, 127, 1000, 2047, 2048, 3000, 3333, 4031, 4032, 4095};
    std::vector<std::vector<float>> rows;
    for (int i = 0; i < kTokens; ++i) rows.push_back(random_values(random_, size(g.latent_dim())));
    std::vector<float> q;
    for (const int needle : needles) {
      const std::vector<float> row = rows[size(needle)];
      for (int twin = 1; twin <= kTwins; ++twin) {
        auto& other = rows[size((needle + 331 * twin + 5) % kTokens)];
        for (std::size_t i = 0; i < row.size(); ++i) other[i] = 0.85F * row[i] + 0.3F * other[i];
      }
      q.insert(q.end(), row.begin(), row.end());
    }
    for (const int needle : needles) {  // twins of one may have hit another
      const auto head = static_cast<std::size_t>(std::find(needles.begin(), needles.end(), needle) -
                                                 needles.begin());
      std::copy_n(q.begin() + static_cast<std::ptrdiff_t>(head * size(g.latent_dim())),
                  g.latent_dim(), rows[size(needle)].begin());
    }
    g.softmax_scale = 60.0F / static_cast<float>(g.latent_dim());

    for (const DType dtype : {DType::kBF16, DType::kF8E4M3}) {
      SCOPED_TRACE(dtype_name(dtype));
      PagedCache cache(device, random_, g, dtype, {kTokens});
      for (int i = 0; i < kTokens; ++i) cache.set(0, i, rows[size(i)]);
      cache.flush();
      const auto out =
          absorbed(device, g, make_batch(device, cache, {{0, kTokens - 1, 1}}), cache.view(), q);
      for (std::size_t head = 0; head < needles.size(); ++head) {
        const float* answer = out.data() + head * size(g.kv_lora_rank);
        int nearest = -1;
        float least = std::numeric_limits<float>::infinity();
        for (int i = 0; i < kTokens; ++i) {
          float distance = 0.0F;
          for (int c = 0; c < g.kv_lora_rank; ++c) {
            const float difference = answer[c] - rows[size(i)][size(c)];
            distance += difference * difference;
          }
          if (distance < least) {
            least = distance;
            nearest = i;
          }
        }
        EXPECT_EQ(nearest, needles[head]) << "head " << head;
      }
    }
  }
}

std::vector<const BackendUnderTest*> all_backends() {
  std::vector<const BackendUnderTest*> all;
  for (const BackendUnderTest& backend : backends()) all.push_back(&backend);
  return all;
}

INSTANTIATE_TEST_SUITE_P(Conformance, Fp8Cache, ::testing::ValuesIn(all_backends()),
                         [](const auto& test) { return test.param->name; });

}  // namespace
}  // namespace latentd::conformance

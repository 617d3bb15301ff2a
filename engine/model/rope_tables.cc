#include "engine/model/rope_tables.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <thread>
#include <vector>

#include "base/check.h"

namespace latentd {
namespace {

constexpr int kMostThreads = 8;
constexpr int kFewestPositionsOfThread = 8192;

// The pair (a real index) that makes `turns` turns over the original context.
double pair_of_turns(const RopeConfig& rope, int rope_dim, double turns) {
  return rope_dim * std::log(rope.original_max_position / (turns * 2.0 * std::numbers::pi)) /
         (2.0 * std::log(rope.theta));
}

void stretch_as_yarn(const RopeConfig& rope, int rope_dim, std::vector<double>& frequencies) {
  // The reference bounds `high` by the dimensions, not by the pairs.
  const double low = std::max(std::floor(pair_of_turns(rope, rope_dim, rope.beta_fast)), 0.0);
  double high = std::min(std::ceil(pair_of_turns(rope, rope_dim, rope.beta_slow)), rope_dim - 1.0);
  if (high == low) high += 0.001;  // the reference's guard against a division by zero
  for (std::size_t pair = 0; pair < frequencies.size(); ++pair) {
    double& frequency = frequencies[pair];
    const double at = static_cast<double>(pair);
    const double keep = 1.0 - std::clamp((at - low) / (high - low), 0.0, 1.0);
    frequency = (1.0 - keep) * frequency / rope.factor + keep * frequency;
  }
}

void stretch_as_llama3(const RopeConfig& rope, std::vector<double>& frequencies) {
  for (double& frequency : frequencies) {
    const double turns = rope.original_max_position * frequency / (2.0 * std::numbers::pi);
    const double keep = std::clamp(
        (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor), 0.0, 1.0);
    frequency = (1.0 - keep) * frequency / rope.factor + keep * frequency;
  }
}

}  // namespace

double yarn_mscale(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

std::vector<double> rope_inverse_frequencies(const RopeConfig& rope, int rope_dim) {
  LATENTD_CHECK(rope_dim > 0 && rope_dim % 2 == 0, "rope_dim {} must be even", rope_dim);
  const int num_pairs = rope_dim / 2;
  std::vector<double> frequencies(static_cast<std::size_t>(num_pairs));
  for (int pair = 0; pair < num_pairs; ++pair) {
    frequencies[static_cast<std::size_t>(pair)] = std::pow(rope.theta, -2.0 * pair / rope_dim);
  }
  switch (rope.kind) {
    case RopeKind::kPlain:
      break;
    case RopeKind::kLinear:
      for (double& frequency : frequencies) frequency /= rope.factor;
      break;
    case RopeKind::kLlama3:
      stretch_as_llama3(rope, frequencies);
      break;
    case RopeKind::kYarn:
      stretch_as_yarn(rope, rope_dim, frequencies);
      break;
  }
  return frequencies;
}

double rope_magnitude(const RopeConfig& rope) {
  if (rope.kind != RopeKind::kYarn) return 1.0;
  return yarn_mscale(rope.factor, rope.mscale) / yarn_mscale(rope.factor, rope.mscale_all_dim);
}

double rope_softmax_factor(const RopeConfig& rope) {
  if (rope.kind != RopeKind::kYarn || rope.mscale_all_dim == 0.0) return 1.0;
  const double mscale = yarn_mscale(rope.factor, rope.mscale_all_dim);
  return mscale * mscale;
}

RopeTables make_rope_tables(const RopeConfig& rope, int rope_dim, int num_positions) {
  const std::vector<double> frequencies = rope_inverse_frequencies(rope, rope_dim);
  const double magnitude = rope_magnitude(rope);
  const std::size_t pairs = frequencies.size();
  RopeTables tables;
  tables.cos.resize(pairs * static_cast<std::size_t>(num_positions));
  tables.sin.resize(pairs * static_cast<std::size_t>(num_positions));
  const auto fill = [&](int first, int end) {
    for (int position = first; position < end; ++position) {
      for (std::size_t pair = 0; pair < pairs; ++pair) {
        const double angle = position * frequencies[pair];
        const std::size_t at = static_cast<std::size_t>(position) * pairs + pair;
        tables.cos[at] = static_cast<float>(std::cos(angle) * magnitude);
        tables.sin[at] = static_cast<float>(std::sin(angle) * magnitude);
      }
    }
  };
  // 160k positions take a third of a second on one core.
  const int share = std::max(kFewestPositionsOfThread, num_positions / kMostThreads + 1);
  {
    std::vector<std::jthread> threads;
    int first = 0;
    for (; num_positions - first > share; first += share) {
      threads.emplace_back(fill, first, first + share);
    }
    fill(first, num_positions);
  }
  return tables;
}

}  // namespace latentd

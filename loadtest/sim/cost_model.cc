#include "loadtest/sim/cost_model.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace latentd::loadtest {
namespace {

constexpr std::size_t kTerms = 7;
using Terms = std::array<double, kTerms>;

Terms terms_of(const StepWork& work) {
  return {work.steps,         work.decode_rows, work.prefill_tokens, work.decode_pairs,
          work.prefill_pairs, work.crowd_pairs, work.experts};
}

// Solves the normal equations over the terms in use, by elimination with pivots.
Terms solve(const std::vector<Measurement>& measurements, const std::array<bool, kTerms>& used) {
  std::array<std::array<double, kTerms + 1>, kTerms> rows{};
  for (const Measurement& measured : measurements) {
    Terms terms = terms_of(measured.work);
    for (double& term : terms) term /= measured.seconds;  // relative error: the target is 1
    for (std::size_t i = 0; i < kTerms; ++i) {
      for (std::size_t j = 0; j < kTerms; ++j) rows[i][j] += terms[i] * terms[j];
      rows[i][kTerms] += terms[i];
    }
  }
  for (std::size_t i = 0; i < kTerms; ++i) {
    if (used[i]) continue;
    rows[i].fill(0.0);
    for (auto& row : rows) row[i] = 0.0;
    rows[i][i] = 1.0;
  }
  for (std::size_t i = 0; i < kTerms; ++i) {
    std::size_t pivot = i;
    for (std::size_t k = i + 1; k < kTerms; ++k) {
      if (std::abs(rows[k][i]) > std::abs(rows[pivot][i])) pivot = k;
    }
    std::swap(rows[i], rows[pivot]);
    if (rows[i][i] == 0.0) continue;
    for (std::size_t k = 0; k < kTerms; ++k) {
      if (k == i) continue;
      const double factor = rows[k][i] / rows[i][i];
      for (std::size_t j = i; j <= kTerms; ++j) rows[k][j] -= factor * rows[i][j];
    }
  }
  Terms solution{};
  for (std::size_t i = 0; i < kTerms; ++i) {
    solution[i] = rows[i][i] == 0.0 ? 0.0 : rows[i][kTerms] / rows[i][i];
  }
  return solution;
}

}  // namespace

double piece_pairs(double start, double count) {
  return count * start + count * (count + 1.0) / 2.0;
}

double crowd_pairs(double decode_pairs, double rows_of_a_step) {
  return rows_of_a_step > kCrowd ? decode_pairs * (1.0 - kCrowd / rows_of_a_step) : 0.0;
}

double experts_read(double routed_share, double tokens_of_a_step) {
  return 1.0 - std::pow(1.0 - routed_share, tokens_of_a_step);
}

StepWork work_of(const BatchPlan& plan, double routed_share) {
  StepWork work;
  for (const PlanRow& row : plan.rows) {
    const bool decode = row.count == 1;
    (decode ? work.decode_rows : work.prefill_tokens) += row.count;
    (decode ? work.decode_pairs : work.prefill_pairs) += piece_pairs(row.start, row.count);
  }
  work.crowd_pairs = crowd_pairs(work.decode_pairs, work.decode_rows);
  work.experts = experts_read(routed_share, work.decode_rows + work.prefill_tokens);
  return work;
}

Result<Fit> fit_cost_model(const std::vector<Measurement>& measurements, double routed_share) {
  const std::size_t needed = routed_share > 0.0 ? kTerms : kTerms - 1;
  if (measurements.size() < needed) {
    return invalid_argument("measurements", "must be at least " + std::to_string(needed) +
                                                ", got " + std::to_string(measurements.size()));
  }
  std::array<bool, kTerms> used;
  used.fill(true);
  Terms terms{};
  for (std::size_t tries = 0; tries < kTerms; ++tries) {
    terms = solve(measurements, used);
    // The worst offender, weighed by what it takes off the typical measurement.
    std::size_t worst = kTerms;
    double least = 0.0;
    for (std::size_t i = 0; i < kTerms; ++i) {
      double share = 0.0;
      for (const Measurement& measured : measurements) {
        share += terms[i] * terms_of(measured.work)[i] / measured.seconds;
      }
      if (terms[i] < 0.0 && share < least) {
        least = share;
        worst = i;
      }
    }
    if (worst == kTerms) break;
    used[worst] = false;
  }
  Fit fit;
  fit.model = {terms[0], terms[1], terms[2], terms[3], terms[4], terms[5], terms[6], routed_share};
  for (const Measurement& measured : measurements) {
    const double error =
        std::abs(fit.model.seconds(measured.work) - measured.seconds) / measured.seconds;
    fit.mean_error += error / static_cast<double>(measurements.size());
    fit.worst_error = std::max(fit.worst_error, error);
  }
  return fit;
}

}  // namespace latentd::loadtest

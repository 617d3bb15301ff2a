#include "loadtest/sim/cost_model.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace latentd::loadtest {
namespace {

constexpr std::size_t kTerms = 4;
using Terms = std::array<double, kTerms>;

constexpr std::string_view kHeader =
    "phase,rows,tokens,context,tokens_per_second,ms,best_ms,mbytes,gbytes_per_second";

Terms terms_of(const StepWork& work) {
  return {work.steps, work.decode_rows, work.prefill_tokens, work.pairs};
}

double piece_pairs(double start, double count) {
  return count * start + count * (count + 1.0) / 2.0;
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

std::vector<std::string_view> split(std::string_view line) {
  std::vector<std::string_view> fields;
  while (true) {
    const std::size_t comma = line.find(',');
    fields.push_back(line.substr(0, comma));
    if (comma == line.npos) return fields;
    line.remove_prefix(comma + 1);
  }
}

bool to_double(std::string_view text, double& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

Result<Measurement> parse_row(std::size_t number, std::string_view line, int chunk) {
  const auto fields = split(line);
  double rows = 0.0;
  double tokens = 0.0;
  double context = 0.0;
  double ms = 0.0;
  if (fields.size() != 9 || !to_double(fields[1], rows) || !to_double(fields[2], tokens) ||
      !to_double(fields[3], context) || !to_double(fields[5], ms) || ms <= 0.0) {
    return invalid_argument(
        "bench", "line " + std::to_string(number) + ": not a row of " + std::string(kHeader));
  }
  Measurement measured;
  measured.seconds = ms * 1e-3;
  if (fields[0] == "decode") {
    measured.work.decode_rows = rows;
    measured.work.pairs = rows * (context + 1.0);
    return measured;
  }
  if (fields[0] != "prefill") {
    return invalid_argument(
        "bench", "line " + std::to_string(number) + ": the phase must be decode or prefill");
  }
  measured.work.prefill_tokens = tokens;
  measured.work.steps = std::ceil(tokens / chunk);
  measured.work.pairs = piece_pairs(0.0, tokens);
  return measured;
}

}  // namespace

StepWork work_of(const BatchPlan& plan) {
  StepWork work;
  for (const PlanRow& row : plan.rows) {
    (row.count == 1 ? work.decode_rows : work.prefill_tokens) += row.count;
    work.pairs += piece_pairs(row.start, row.count);
  }
  return work;
}

Result<std::vector<Measurement>> parse_bench_csv(std::string_view text, int chunk) {
  std::vector<Measurement> measurements;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line == kHeader) continue;
    LATENTD_ASSIGN_OR_RETURN(const Measurement measured, parse_row(number, line, chunk));
    measurements.push_back(measured);
  }
  return measurements;
}

Result<Fit> fit_cost_model(const std::vector<Measurement>& measurements) {
  if (measurements.size() < kTerms) {
    return invalid_argument("bench",
                            "needs at least 4 rows, got " + std::to_string(measurements.size()));
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
  fit.model = {terms[0], terms[1], terms[2], terms[3]};
  for (const Measurement& measured : measurements) {
    const double error =
        std::abs(fit.model.seconds(measured.work) - measured.seconds) / measured.seconds;
    fit.mean_error += error / static_cast<double>(measurements.size());
    fit.worst_error = std::max(fit.worst_error, error);
  }
  return fit;
}

}  // namespace latentd::loadtest

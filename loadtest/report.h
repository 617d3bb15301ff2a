// Reports: a run as JSON (the record), and what is made of such records: a table for the terminal,
// a self-contained HTML page, a comparison of two.
//
// Schema "latentd.loadtest/1" (docs/loadtest.md): scenario, target, run, requests, errors,
// latency_ms {ttft, itl, tpot, e2e, client_lag: {count, mean, p50 ... max}}, throughput, goodput,
// tokens, fairness, tenants, server, seconds, percentiles, samples.
//
// Contract: pure functions of their arguments. `json` texts that are not such records give
// kInvalidArgument.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "loadtest/runner.h"
#include "loadtest/scenario.h"

namespace latentd::loadtest {

std::string make_report(const Scenario& scenario, const RunOptions& options,
                        const RunResult& result);

Result<std::string> summary_table(std::string_view json);
Result<std::string> html_report(std::string_view json);

struct Comparison {
  std::string text;
  bool worse = false;  // B is worse than A by more than the threshold somewhere
};
// Figures of B beside A's; a difference above `threshold` (0.05 is 5 %) is marked.
Result<Comparison> compare_reports(std::string_view a, std::string_view b, double threshold);

// One JSON line a request, for --requests-out.
std::string outcome_lines(const std::vector<Outcome>& outcomes);

}  // namespace latentd::loadtest

// Sweep: the highest rate at which a server still meets an SLO.
//
// The rate grows by `growth` until it fails, then the gap between the highest that held and the
// lowest that failed is halved until it is within `precision`. Every probe is a whole run with its
// own warm-up and its own seed, so that it finds nothing of the others in a prefix cache. A probe
// too short for a request of its rate says nothing, and ends the search.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "loadtest/runner.h"

namespace latentd::loadtest {

struct SweepOptions {
  double first_rate = 1.0;
  double growth = 2.0;
  double precision = 0.1;  // relative
  int max_probes = 12;
  double quantile = 0.99;   // of TTFT and time between tokens
  double max_failed = 0.0;  // share of requests that may fail
};

struct Probe {
  double rate = 0.0;
  std::uint64_t requests = 0;  // that ended; none: no verdict
  bool met = false;
  double ttft_ms = 0.0, itl_ms = 0.0, e2e_ms = 0.0;  // at the quantile
  double failed = 0.0;                               // share
  double output_tokens_per_s = 0.0;
};

// Whether the run meets the SLO, and the figures that decide.
Probe judge(double rate, const Scenario& scenario, const RunResult& result,
            const SweepOptions& options);

// The probes in the order made; the answer is best_rate of them. Ends early on an error.
Result<std::vector<Probe>> sweep(const SweepOptions& options,
                                 const std::function<Result<Probe>(double rate)>& probe);

double best_rate(const std::vector<Probe>& probes);  // 0: none met it

std::string probe_line(const Probe& probe);
std::string sweep_json(const std::vector<Probe>& probes);

}  // namespace latentd::loadtest

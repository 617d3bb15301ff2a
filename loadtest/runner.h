// Runs a scenario against a server: plan, threads, progress line, merged measures.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "loadtest/measures.h"
#include "loadtest/plan.h"
#include "loadtest/scenario.h"
#include "loadtest/server_metrics.h"
#include "loadtest/transport.h"

namespace latentd::loadtest {

struct RunOptions {
  Target target;
  int threads = 1;
  bool progress = true;  // a line a second on stderr
  bool keep_outcomes = false;
  std::string metrics_url;  // of the server; empty: none
};

struct RunResult {
  Measures measures;
  std::vector<Outcome> outcomes;  // by index in the plan, when kept
  std::size_t planned = 0;
  double wall_s = 0.0;
  double cpu_s = 0.0;         // of this process, in the run
  double load_average = 0.0;  // of the machine, at the end
  bool interrupted = false;
  ServerMetrics server;
};

// The file limit raised as far as it goes: a stream is a file.
std::uint64_t raise_file_limit();

// REQUIRES: validate(scenario) is ok. `stop` may be set at any time (a signal, another thread).
Result<RunResult> run_scenario(const Scenario& scenario, const RunOptions& options,
                               const std::atomic<bool>& stop);

}  // namespace latentd::loadtest

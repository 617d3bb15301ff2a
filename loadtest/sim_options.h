// What latentd-sim was told on its command line.
//
// Contract: plain values; parsing prints nothing and exits never.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "loadtest/scenario.h"

namespace latentd::loadtest {

struct SimCommand {
  enum class Kind : std::uint8_t { kPrint, kFit, kRun };

  Kind kind = Kind::kPrint;
  std::string text;  // to print, for --help

  // fit
  std::string bench;
  int chunk = 512;
  double routed_share = 0.0;
  std::vector<std::string> reports;
  std::string out;

  // run: every combination of the lists is simulated
  Scenario scenario;
  std::string cost;
  double door_ms = -1.0;  // below 0: the cost file's
  int repeat = 1;
  int max_model_len = 1024;
  int kv_cache_tokens = 1 << 20;
  int page_tokens = 64;
  int pipeline_depth = 1;
  int max_queue = 1024;
  std::vector<int> max_num_seqs = {64};
  std::vector<int> budgets = {128};
  std::vector<double> pass_limits_s = {10.0};
  std::vector<std::string> policies = {"exact"};
  std::string json_out;
};

// kInvalidArgument with a message for people.
Result<SimCommand> parse_sim_command(int argc, const char* const* argv);

}  // namespace latentd::loadtest

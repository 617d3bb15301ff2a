// What latentd-loadtest was told on its command line.
//
// Contract: plain values; parsing prints nothing and exits never.
#pragma once

#include <string>

#include "base/result.h"
#include "loadtest/null_server.h"
#include "loadtest/runner.h"
#include "loadtest/scenario.h"
#include "loadtest/sweep.h"

namespace latentd::loadtest {

struct Command {
  enum class Kind : std::uint8_t { kPrint, kRun, kSweep, kCompare, kReport, kNullServer };

  Kind kind = Kind::kPrint;
  std::string text;  // to print, for --help
  Scenario scenario;
  RunOptions run;
  SweepOptions sweep;
  std::string json_out, html_out, requests_out;
  std::string report_out;  // of a sweep's best probe
  std::string report_a, report_b;
  double threshold = 0.05;
  NullServerOptions null_server;
};

// kInvalidArgument with a message for people.
Result<Command> parse_command(int argc, const char* const* argv);

}  // namespace latentd::loadtest

// ScenarioFlags: the command line's half of a scenario: a file, and flags that change it. One set
// for the load test and the simulator, so that both can be told the same traffic in the same words.
//
// Contract: add_to once, scenario() after the command line was parsed; it outlives the parsing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "loadtest/scenario.h"

namespace CLI {
class App;
}

namespace latentd::loadtest {

class ScenarioFlags final {
 public:
  void add_to(CLI::App& app);

  // The file's scenario with the flags that were given, valid. kInvalidArgument names the field.
  Result<Scenario> scenario() const;

 private:
  Status set_tenant_keys(Scenario& scenario) const;

  std::string file_, process_, trace_;
  std::optional<double> rate_, cv_, time_scale_, length_scale_, duration_, warmup_;
  std::optional<int> concurrency_, prompt_tokens_, output_tokens_, max_prompt_, max_output_;
  std::optional<std::int64_t> requests_;
  std::optional<std::uint64_t> seed_;
  std::optional<double> cancel_rate_, slow_rate_, slow_bytes_, slo_ttft_, slo_itl_, slo_e2e_;
  std::vector<std::string> tenant_keys_;  // NAME=KEY
};

}  // namespace latentd::loadtest

// Scenario: what traffic to make. Read from a YAML file (JSON is YAML), changed by flags.
//
//   name: chat
//   arrivals: {process: poisson, rate: 4}     # or gamma + cv, constant, closed + concurrency,
//   trace duration_s: 60                            # or requests: 1000; both: whichever ends first
//   warmup_s: 5                               # sent like the rest, left out of the figures
//   seed: 1
//   tenants:
//     - name: people
//       weight: 3                             # share of the requests
//       prompt_tokens: {median: 300, sigma: 0.8, min: 8, max: 4000}   # log-normal; or a number, or
//       output_tokens: {min: 16, max: 256}                            # {min, max}: uniform
//       shared_prefix: {tokens: 512, groups: 4}
//       turns: 5                              # a session: each turn repeats all before it
//       think_s: 2                            #   and waits for the answer, then for so long
//       cancel_rate: 0.05                     # of requests, hung up on somewhere in their answer
//       slow_reader_rate: 0.01                # of requests, read at slow_reader_bytes_per_s
//   slo: {ttft_ms: 1000, itl_ms: 50}
//
// Errors: kInvalidArgument with the field's path. Unknown keys are errors, so that a typing mistake
// is not a silent default.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "loadtest/arrivals.h"
#include "loadtest/random.h"

namespace latentd::loadtest {

// How many tokens. sigma > 0: log-normal about `median`, cut to [min, max]; else uniform over them.
struct Length {
  double median = 0.0;
  double sigma = 0.0;
  int min = 128;
  int max = 128;

  int draw(Random& random) const;
};

struct Tenant {
  std::string name = "default";
  double weight = 1.0;
  std::string api_key;  // empty: the run's
  int priority = 0;
  Length prompt_tokens;
  Length output_tokens = {0.0, 0.0, 64, 64};
  int prefix_tokens = 0;  // opening tokens shared by all requests of a group
  int prefix_groups = 1;
  int turns = 1;
  double think_s = 0.0;
  double cancel_rate = 0.0;
  double slow_reader_rate = 0.0;
};

// What a request must meet to count as good. 0: not asked for.
struct Slo {
  double ttft_ms = 0.0;
  double itl_ms = 0.0;  // mean time between tokens of the request
  double e2e_ms = 0.0;

  bool any() const { return ttft_ms > 0 || itl_ms > 0 || e2e_ms > 0; }
};

struct Scenario {
  std::string name = "default";
  std::string description;
  Process process = Process::kPoisson;
  double rate = 1.0;          // requests a second (sessions a second, where there are turns)
  double cv = 1.0;            // kGamma
  int concurrency = 1;        // kClosed
  std::string trace;          // kTrace: path
  double time_scale = 1.0;    // kTrace: 2 replays twice as fast
  double length_scale = 1.0;  // of all lengths, so that a small model can be asked
  int max_prompt_tokens = 0;  // > 0: longer prompts are cut
  int max_output_tokens = 0;
  double duration_s = 0.0;    // 0: no limit
  std::int64_t requests = 0;  // 0: no limit
  double warmup_s = 0.0;
  double slow_reader_bytes_per_s = 200.0;
  std::uint64_t seed = 1;
  std::vector<Tenant> tenants = {Tenant{}};
  Slo slo;
};

Result<Scenario> parse_scenario(std::string_view yaml);
Result<Scenario> read_scenario(const std::filesystem::path& path);

// After flags were applied: every field in its range, and an end.
Status validate(const Scenario& scenario);

}  // namespace latentd::loadtest

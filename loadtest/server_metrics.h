// ServerMetrics: what the server itself says in Prometheus text, before, during and after a run.
//
// Known by vLLM's names, which latentd serves too: the time requests waited in the queue (which no
// client can see), requests running and waiting, use of the cache, prefix cache hits. A server
// without them is measured all the same; `available` says so. What the server's own clock says of
// first tokens and whole requests is kept beside: the client's figures less these are what the
// network and the client add.
//
// Contract: one thread. Calls block for at most a second; failures leave a gap.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace latentd::loadtest {

struct GaugeSample {
  double at_seconds = 0.0;
  double running = 0.0;
  double waiting = 0.0;
  double cache_usage = 0.0;  // 0 to 1
};

// Sums a metric over its labels: name -> value.
std::map<std::string, double, std::less<>> parse_metrics(std::string_view text);

class ServerMetrics final {
 public:
  // `api_key` may be empty: for servers that ask for one.
  void begin(const std::string& url, const std::string& api_key);
  void sample(double at_seconds);
  void end();

  bool available() const { return available_; }
  // How much a counter grew from begin to end.
  double growth(std::string_view name) const;
  // Mean of the observations of a histogram or summary in the run, in ms; -1: not known.
  double mean_ms(const std::string& name) const;
  const std::vector<GaugeSample>& samples() const { return samples_; }

 private:
  std::string url_, api_key_;
  std::map<std::string, double, std::less<>> before_, after_;
  std::vector<GaugeSample> samples_;
  bool available_ = false;
};

}  // namespace latentd::loadtest

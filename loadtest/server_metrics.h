// ServerMetrics: what the server itself says in Prometheus text, before, during and after a run.
//
// Known by vLLM's names, which latentd serves too: the time requests waited in the queue (which no
// client can see), requests running and waiting, use of the cache, prefix cache hits. A server
// without them is measured all the same; `available` says so.
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
  void begin(const std::string& url);
  void sample(const std::string& url, double at_seconds);
  void end(const std::string& url);

  bool available() const { return available_; }
  // How much a counter grew from begin to end.
  double growth(std::string_view name) const;
  double mean_queue_ms() const;  // -1: not known
  const std::vector<GaugeSample>& samples() const { return samples_; }

 private:
  std::map<std::string, double, std::less<>> before_, after_;
  std::vector<GaugeSample> samples_;
  bool available_ = false;
};

}  // namespace latentd::loadtest

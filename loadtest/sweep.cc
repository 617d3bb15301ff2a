#include "loadtest/sweep.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>

namespace latentd::loadtest {

Probe judge(double rate, const Scenario& scenario, const RunResult& result,
            const SweepOptions& options) {
  const Measures& measures = result.measures;
  const TenantMeasures total = measures.total();
  const auto ms = [&options](const Histogram& histogram) {
    return histogram.quantile(options.quantile) * 1e-3;
  };
  Probe probe;
  probe.rate = rate;
  probe.ttft_ms = ms(measures.ttft);
  probe.itl_ms = ms(measures.itl);
  probe.e2e_ms = ms(measures.e2e);
  probe.requests = total.completed + total.failed;
  if (probe.requests > 0) {
    probe.failed = static_cast<double>(total.failed) / static_cast<double>(probe.requests);
  }
  const double end = scenario.duration_s > 0.0 ? scenario.duration_s : measures.last_end_seconds;
  probe.output_tokens_per_s =
      static_cast<double>(measures.window_tokens) / std::max(end - scenario.warmup_s, 1e-9);
  const auto within = [](double value, double limit) { return limit <= 0.0 || value <= limit; };
  const Slo& slo = scenario.slo;
  probe.met = probe.requests > 0 && within(probe.ttft_ms, slo.ttft_ms) &&
              within(probe.itl_ms, slo.itl_ms) && within(probe.e2e_ms, slo.e2e_ms) &&
              probe.failed <= options.max_failed;
  return probe;
}

Result<std::vector<Probe>> sweep(const SweepOptions& options,
                                 const std::function<Result<Probe>(double rate)>& probe) {
  std::vector<Probe> probes;
  double held = 0.0;
  double failed = 0.0;  // 0: none yet
  double rate = options.first_rate;
  while (static_cast<int>(probes.size()) < options.max_probes) {
    LATENTD_ASSIGN_OR_RETURN(const Probe made, probe(rate));
    if (made.requests == 0) break;
    probes.push_back(made);
    (made.met ? held : failed) = rate;
    if (failed > 0.0 && held > 0.0) {
      if (failed - held <= options.precision * held) break;
      rate = std::sqrt(held * failed);
    } else {
      rate = made.met ? rate * options.growth : rate / options.growth;
    }
  }
  return probes;
}

double best_rate(const std::vector<Probe>& probes) {
  double best = 0.0;
  for (const Probe& probe : probes) {
    if (probe.met) best = std::max(best, probe.rate);
  }
  return best;
}

std::string probe_line(const Probe& probe) {
  if (probe.requests == 0) {
    return fmt::format("{:>9.2f} requests/s  no request is due in a probe: lengthen --duration",
                       probe.rate);
  }
  return fmt::format(
      "{:>9.2f} requests/s  ttft {:>9.1f} ms  itl {:>8.1f} ms  e2e {:>9.1f} ms  failed {:>5.1f} %  "
      "{:>8.0f} tokens/s  {}",
      probe.rate, probe.ttft_ms, probe.itl_ms, probe.e2e_ms, probe.failed * 100.0,
      probe.output_tokens_per_s, probe.met ? "met" : "missed");
}

std::string sweep_json(const std::vector<Probe>& probes) {
  std::string out = fmt::format(
      "{{\n \"schema\": \"latentd.loadtest.sweep/1\",\n"
      " \"best_rate\": {},\n \"probes\": [",
      best_rate(probes));
  for (std::size_t i = 0; i < probes.size(); ++i) {
    const Probe& probe = probes[i];
    out += fmt::format(
        "{}\n  {{\"rate\": {}, \"requests\": {}, \"met\": {}, \"ttft_ms\": {}, \"itl_ms\": {}, "
        "\"e2e_ms\": {}, "
        "\"failed\": {}, \"output_tokens_per_s\": {}}}",
        i == 0 ? "" : ",", probe.rate, probe.requests, probe.met, probe.ttft_ms, probe.itl_ms,
        probe.e2e_ms, probe.failed, probe.output_tokens_per_s);
  }
  return out + "\n ]\n}\n";
}

}  // namespace latentd::loadtest

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "loadtest/report.h"

namespace latentd::loadtest {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<std::pair<const char*, double>, 7> kQuantiles = {{{"p50", 0.5},
                                                                       {"p75", 0.75},
                                                                       {"p90", 0.9},
                                                                       {"p95", 0.95},
                                                                       {"p99", 0.99},
                                                                       {"p99.9", 0.999},
                                                                       {"max", 1.0}}};
// Of the percentile plot: evenly spaced in "nines".
constexpr int kCurvePoints = 60;
constexpr std::size_t kMaxSamples = 1500;

double ms(double microseconds) { return microseconds * 1e-3; }

// Of what is only plotted: three decimals of a second, a millisecond, a share.
double rounded(double value) { return std::round(value * 1e3) / 1e3; }

Json latency(const Histogram& histogram) {
  Json json;
  json["count"] = histogram.count();
  json["mean"] = ms(histogram.mean());
  json["min"] = ms(static_cast<double>(histogram.min()));
  for (const auto& [name, fraction] : kQuantiles) json[name] = ms(histogram.quantile(fraction));
  return json;
}

// [[nines, ms] ...]: nines 1 is p90, 2 is p99.
Json curve(const Histogram& histogram) {
  Json points = Json::array();
  if (histogram.count() == 0) return points;
  const double last = std::log10(static_cast<double>(histogram.count()));
  for (int i = 0; i <= kCurvePoints; ++i) {
    const double nines = last * i / kCurvePoints;
    points.push_back({rounded(nines), ms(histogram.quantile(1.0 - std::pow(10.0, -nines)))});
  }
  return points;
}

Json scenario_json(const Scenario& scenario) {
  Json json;
  json["name"] = scenario.name;
  json["process"] = process_name(scenario.process);
  json["rate"] = scenario.rate;
  json["cv"] = scenario.cv;
  json["concurrency"] = scenario.concurrency;
  json["trace"] = scenario.trace.substr(scenario.trace.find_last_of('/') + 1);
  json["time_scale"] = scenario.time_scale;
  json["length_scale"] = scenario.length_scale;
  json["duration_s"] = scenario.duration_s;
  json["requests"] = scenario.requests;
  json["warmup_s"] = scenario.warmup_s;
  json["seed"] = scenario.seed;
  json["slo"] = {{"ttft_ms", scenario.slo.ttft_ms},
                 {"itl_ms", scenario.slo.itl_ms},
                 {"e2e_ms", scenario.slo.e2e_ms}};
  return json;
}

const char* api_name(Api api) {
  switch (api) {
    case Api::kCompletions:
      return "completions";
    case Api::kChat:
      return "chat";
    case Api::kGrpc:
      return "grpc";
  }
  return "";
}

Json tenants_json(const Scenario& scenario, const Measures& measures) {
  Json list = Json::array();
  for (std::size_t i = 0; i < measures.tenants.size(); ++i) {
    const TenantMeasures& tenant = measures.tenants[i];
    Json json;
    json["name"] = scenario.tenants[i].name;
    json["weight"] = scenario.tenants[i].weight;
    json["sent"] = tenant.sent;
    json["completed"] = tenant.completed;
    json["cancelled"] = tenant.cancelled;
    json["failed"] = tenant.failed;
    json["good"] = tenant.good;
    json["output_tokens"] = tenant.output_tokens;
    json["ttft_ms"] = latency(tenant.ttft);
    list.push_back(std::move(json));
  }
  return list;
}

// Over what the tenants got for their weight, and over how many of their requests were served.
Json fairness_json(const Scenario& scenario, const Measures& measures) {
  std::vector<double> tokens;
  std::vector<double> served;
  for (std::size_t i = 0; i < measures.tenants.size(); ++i) {
    const TenantMeasures& tenant = measures.tenants[i];
    tokens.push_back(static_cast<double>(tenant.output_tokens) / scenario.tenants[i].weight);
    served.push_back(tenant.sent == 0 ? 1.0
                                      : static_cast<double>(tenant.completed + tenant.cancelled) /
                                            static_cast<double>(tenant.sent));
  }
  return {{"jain_output_tokens", jain_index(tokens)}, {"jain_served", jain_index(served)}};
}

Json server_json(const ServerMetrics& server) {
  Json json;
  json["available"] = server.available();
  if (!server.available()) return json;
  for (const auto& [name, metric] :
       {std::pair{"queue_ms_mean", "vllm:request_queue_time_seconds"},
        std::pair{"prefill_ms_mean", "vllm:request_prefill_time_seconds"},
        std::pair{"ttft_ms_mean", "vllm:time_to_first_token_seconds"},
        std::pair{"e2e_ms_mean", "vllm:e2e_request_latency_seconds"}}) {
    json[name] = server.mean_ms(metric);
  }
  json["prompt_tokens"] = server.growth("vllm:prompt_tokens_total");
  json["generation_tokens"] = server.growth("vllm:generation_tokens_total");
  json["prefix_cache_queries"] = server.growth("vllm:prefix_cache_queries_total");
  json["prefix_cache_hits"] = server.growth("vllm:prefix_cache_hits_total");
  json["preemptions"] = server.growth("vllm:num_preemptions_total");
  // What a cost model is fitted to (latentd-sim fit); latentd's own metrics.
  json["engine"] = {{"steps", server.growth("latentd_engine_step_seconds_count")},
                    {"step_seconds", server.growth("latentd_engine_step_seconds_sum")},
                    {"tokens", server.growth("latentd_iteration_tokens_total_sum")},
                    {"prefill_tokens", server.growth("latentd_prompt_tokens_computed_total")}};
  json["samples"] = Json::array();
  for (const GaugeSample& sample : server.samples()) {
    json["samples"].push_back(
        {sample.at_seconds, sample.running, sample.waiting, rounded(sample.cache_usage)});
  }
  return json;
}

void add_rates(const Scenario& scenario, const RunResult& result, Json& json) {
  const Measures& measures = result.measures;
  const TenantMeasures total = measures.total();
  const double end = scenario.duration_s > 0.0 ? scenario.duration_s : measures.last_end_seconds;
  const double window = std::max(end - scenario.warmup_s, 1e-9);
  // Events may carry less than a token (half a character) or more: scaled to what the server says.
  const double tokens_an_event_token =
      measures.event_tokens > 0
          ? static_cast<double>(measures.usage_tokens) / static_cast<double>(measures.event_tokens)
          : 1.0;
  const double completed = static_cast<double>(measures.window_completed);
  json["throughput"] = {{"window_s", window},
                        {"requests_per_s", completed / window},
                        {"output_tokens_per_s", static_cast<double>(measures.window_tokens) *
                                                    tokens_an_event_token / window}};
  const double finished = static_cast<double>(total.completed + total.failed);
  json["goodput"] = {
      {"slo_given", scenario.slo.any()},
      {"good", total.good},
      {"fraction", finished > 0.0 ? static_cast<double>(total.good) / finished : 0.0},
      {"requests_per_s", static_cast<double>(measures.window_good) / window}};
  json["token_counts"] = {{"by_usage", measures.counted[0]},
                          {"by_length", measures.counted[1]},
                          {"by_events", measures.counted[2]}};
  json["tokens"] = {
      {"prompt", total.prompt_tokens},
      {"prefill_pairs", total.prefill_pairs},
      {"decode_pairs", total.decode_pairs},
      {"cached", total.cached_tokens},
      {"output", total.output_tokens},
      {"cached_fraction", total.prompt_tokens > 0 ? static_cast<double>(total.cached_tokens) /
                                                        static_cast<double>(total.prompt_tokens)
                                                  : 0.0}};
}

void add_plots(const Measures& measures, Json& json) {
  json["seconds"] = Json::array();
  for (const SecondBin& second : measures.seconds) {
    json["seconds"].push_back({second.sent, second.completed, second.failed, second.tokens});
  }
  json["percentiles"] = {
      {"ttft", curve(measures.ttft)}, {"itl", curve(measures.itl)}, {"e2e", curve(measures.e2e)}};
  json["samples"] = Json::array();
  const std::size_t every = measures.samples.size() / kMaxSamples + 1;
  for (std::size_t i = 0; i < measures.samples.size(); i += every) {
    const Sample& sample = measures.samples[i];
    json["samples"].push_back({rounded(sample.at_seconds), rounded(sample.ttft_ms), sample.tenant});
  }
}

// A line a member: small, and fit for a diff.
std::string lines_of(const Json& json) {
  std::string out;
  for (const auto& [key, value] : json.items()) {
    out += (out.empty() ? "{\n" : ",\n") + Json(key).dump() + ": " + value.dump();
  }
  return out + "\n}\n";
}

}  // namespace

std::string make_report(const Scenario& scenario, const RunOptions& options,
                        const RunResult& result) {
  const Measures& measures = result.measures;
  const TenantMeasures total = measures.total();
  Json json;
  json["schema"] = "latentd.loadtest/1";
  json["scenario"] = scenario_json(scenario);
  json["target"] = {{"api", api_name(options.target.api)},
                    {"host", options.target.host},
                    {"port", options.target.port},
                    {"model", options.target.model}};
  json["run"] = {{"wall_s", result.wall_s},
                 {"threads", options.threads},
                 {"client_cpu_s", result.cpu_s},
                 {"load_average", result.load_average},
                 {"interrupted", result.interrupted}};
  json["requests"] = {{"planned", result.planned},
                      {"sent", total.sent},
                      {"completed", total.completed},
                      {"cancelled", total.cancelled},
                      {"failed", total.failed}};
  json["errors"] = Json::object();
  for (const auto& [kind, count] : measures.errors) json["errors"][kind] = count;
  json["latency_ms"] = {{"ttft", latency(measures.ttft)},
                        {"itl", latency(measures.itl)},
                        {"tpot", latency(measures.tpot)},
                        {"e2e", latency(measures.e2e)},
                        {"client_lag", latency(measures.lag)}};
  add_rates(scenario, result, json);
  json["fairness"] = fairness_json(scenario, measures);
  json["tenants"] = tenants_json(scenario, measures);
  json["server"] = server_json(result.server);
  add_plots(measures, json);
  return lines_of(json);
}

std::string outcome_lines(const std::vector<Outcome>& outcomes) {
  std::string out;
  for (const Outcome& outcome : outcomes) {
    Json json;
    json["index"] = outcome.index;
    json["tenant"] = outcome.tenant;
    json["intended_s"] = outcome.intended_s;
    json["lag_ms"] = outcome.lag_ms;
    json["ttft_ms"] = outcome.ttft_ms;
    json["e2e_ms"] = outcome.e2e_ms;
    json["output_tokens"] = outcome.output_tokens;
    json["cached_tokens"] = outcome.cached_tokens;
    json["hash"] = outcome.hash;
    json["error"] = outcome.error;
    out += json.dump() + "\n";
  }
  return out;
}

}  // namespace latentd::loadtest

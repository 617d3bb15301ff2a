#include "server/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>
#include <optional>
#include <sstream>
#include <unordered_map>
#include <vector>

#include "server/engine_metrics.h"
#include "server/generation.h"
#include "server/version.h"

namespace latentd {
namespace {

using Buckets = prometheus::Histogram::BucketBoundaries;
using Families = std::vector<prometheus::MetricFamily>;

const Buckets kFirstTokenBuckets = {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                                    1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
const Buckets kInterTokenBuckets = {.001, .002, .004, .006, .008, .01, .015, .02, .025, .03, .04,
                                    .06,  .08,  .1,   .2,   .4,   .8,  1,    2,   4,    8};
const Buckets kRequestBuckets = {.01, .05, .1, .3, .5, .8, 1,  1.5, 2,   2.5, 5,
                                 10,  15,  20, 30, 40, 50, 60, 120, 240, 480, 960};
const Buckets kTokenCountBuckets = {1,   2,    5,    10,   20,    50,    100,   200,
                                    500, 1000, 2000, 5000, 10000, 20000, 50000, 100000};

// Families that vLLM has under the same name behind "vllm:".
constexpr std::array kAliases = {
    "num_requests_running",        "num_requests_waiting",         "kv_cache_usage_perc",
    "cache_config_info",           "prompt_tokens_total",          "generation_tokens_total",
    "prefix_cache_queries_total",  "prefix_cache_hits_total",      "num_preemptions_total",
    "request_success_total",       "time_to_first_token_seconds",  "inter_token_latency_seconds",
    "e2e_request_latency_seconds", "request_queue_time_seconds",   "request_prompt_tokens",
    "request_generation_tokens",   "request_prefill_time_seconds", "request_decode_time_seconds",
    "iteration_tokens_total",
};

void add_aliases(Families& families) {
  constexpr std::string_view kOurs = "latentd_";
  const std::size_t count = families.size();
  for (std::size_t i = 0; i < count; ++i) {
    const std::string name = families[i].name.substr(kOurs.size());
    if (std::ranges::find(kAliases, name) == kAliases.end()) continue;
    families.push_back(families[i]);
    families.back().name = "vllm:" + name;
  }
}

// The families that are counted here. Made once the model's name, a label of all, is known.
struct Counted {
  explicit Counted(const prometheus::Labels& labels);

  prometheus::Histogram& histogram(const char* name, const char* help, const Buckets& buckets,
                                   const prometheus::Labels& labels) {
    return prometheus::BuildHistogram().Name(name).Help(help).Register(registry).Add(labels,
                                                                                     buckets);
  }

  prometheus::Registry registry;
  prometheus::Counter& prompt_tokens;
  prometheus::Family<prometheus::Counter>& finished;
  prometheus::Histogram& first_token;
  prometheus::Histogram& inter_token;
  prometheus::Histogram& request;
  prometheus::Histogram& queue;
  prometheus::Histogram& prefill;
  prometheus::Histogram& decode;
  prometheus::Histogram& request_prompt_tokens;
  prometheus::Histogram& request_generation_tokens;
};

Counted::Counted(const prometheus::Labels& labels)
    : prompt_tokens(prometheus::BuildCounter()
                        .Name("latentd_prompt_tokens_total")
                        .Help("Tokens of prompts whose work began")
                        .Register(registry)
                        .Add(labels)),
      finished(prometheus::BuildCounter()
                   .Name("latentd_request_success_total")
                   .Help("Choices that ended, by reason")
                   .Labels(labels)
                   .Register(registry)),
      first_token(histogram("latentd_time_to_first_token_seconds", "From arrival to first token",
                            kFirstTokenBuckets, labels)),
      inter_token(histogram("latentd_inter_token_latency_seconds", "Between tokens of one choice",
                            kInterTokenBuckets, labels)),
      request(histogram("latentd_e2e_request_latency_seconds", "From arrival to the end",
                        kRequestBuckets, labels)),
      queue(histogram("latentd_request_queue_time_seconds", "From arrival to a slot",
                      kRequestBuckets, labels)),
      prefill(histogram("latentd_request_prefill_time_seconds", "From a slot to the first token",
                        kRequestBuckets, labels)),
      decode(histogram("latentd_request_decode_time_seconds", "From the first token to the end",
                       kRequestBuckets, labels)),
      request_prompt_tokens(histogram("latentd_request_prompt_tokens", "Prompt tokens of a choice",
                                      kTokenCountBuckets, labels)),
      request_generation_tokens(histogram("latentd_request_generation_tokens",
                                          "Generated tokens of a choice", kTokenCountBuckets,
                                          labels)) {
  for (const char* reason : {"stop", "length", "abort", "error"}) {
    finished.Add({{"finished_reason", reason}});
  }
}

}  // namespace

struct Metrics::State {
  explicit State(std::function<ServerState()> server_state_in)
      : server_state(std::move(server_state_in)),
        rejected(prometheus::BuildCounter()
                     .Name("latentd_requests_rejected_total")
                     .Help("Requests refused, by reason")
                     .Register(registry)),
        cancelled(prometheus::BuildCounter()
                      .Name("latentd_requests_cancelled_total")
                      .Help("Requests ended early, by cause")
                      .Register(registry)),
        auth_failures(prometheus::BuildCounter()
                          .Name("latentd_auth_failures_total")
                          .Help("Calls without a valid key, by door")
                          .Register(registry)),
        tenant_requests(prometheus::BuildCounter()
                            .Name("latentd_tenant_requests_total")
                            .Help("Generations answered, by the tenant of the key")
                            .Register(registry)),
        tenant_tokens(prometheus::BuildCounter()
                          .Name("latentd_tenant_tokens_total")
                          .Help("Tokens of prompts and of answers, by the tenant of the key")
                          .Register(registry)),
        tenant_cache(prometheus::BuildCounter()
                         .Name("latentd_tenant_kv_byte_seconds_total")
                         .Help("Cache held over time, by the tenant of the key")
                         .Register(registry)),
        spans_exported(prometheus::BuildCounter()
                           .Name("latentd_otlp_spans_exported_total")
                           .Help("Spans that the collector has taken")
                           .Register(registry)
                           .Add({})),
        spans_dropped(prometheus::BuildCounter()
                          .Name("latentd_otlp_spans_dropped_total")
                          .Help("Spans that no collector has, by reason")
                          .Register(registry)),
        device_errors(prometheus::BuildCounter()
                          .Name("latentd_gpu_errors_total")
                          .Help("Faults of the device, by kind")
                          .Register(registry)) {
    device_errors.Add({{"kind", "fatal"}});
    for (const char* reason : {"queue_full", "unavailable", "invalid", "key_limit"}) {
      rejected.Add({{"reason", reason}});
    }
    for (const char* cause : {"disconnect", "abort", "slow_reader"}) {
      cancelled.Add({{"cause", cause}});
    }
    for (const char* reason : {"queue_full", "export_failed", "rejected"}) {
      spans_dropped.Add({{"reason", reason}});
    }
    for (const char* door : {"http", "grpc"}) auth_failures.Add({{"door", door}});
  }

  const std::function<ServerState()> server_state;
  prometheus::Registry registry;
  prometheus::Family<prometheus::Counter>& rejected;
  prometheus::Family<prometheus::Counter>& cancelled;
  prometheus::Family<prometheus::Counter>& auth_failures;
  prometheus::Family<prometheus::Counter>& tenant_requests;
  prometheus::Family<prometheus::Counter>& tenant_tokens;
  prometheus::Family<prometheus::Counter>& tenant_cache;
  prometheus::Counter& spans_exported;
  prometheus::Family<prometheus::Counter>& spans_dropped;
  prometheus::Family<prometheus::Counter>& device_errors;

  // Written once by set_engine, then published.
  std::unique_ptr<Counted> counted;
  EngineMetricsSource engine;
  std::atomic<bool> has_engine{false};
  std::atomic<std::int64_t> certificate_expiry{0};  // 0: there is no certificate

  Counted* published() {
    return has_engine.load(std::memory_order_acquire) ? counted.get() : nullptr;
  }
};

Metrics::Metrics(std::function<ServerState()> state)
    : state_(std::make_unique<State>(std::move(state))) {}

Metrics::~Metrics() = default;

void Metrics::set_engine(const std::string& model_name, const EngineInfo& info,
                         std::function<EngineStats()> stats) {
  state_->counted =
      std::make_unique<Counted>(prometheus::Labels{{"engine", "0"}, {"model_name", model_name}});
  state_->engine = {model_name, info, std::move(stats)};
  state_->has_engine.store(true, std::memory_order_release);
}

void Metrics::count_prompt_tokens(int tokens) {
  if (Counted* counted = state_->published()) counted->prompt_tokens.Increment(tokens);
}

void Metrics::observe_queue_time(double seconds) {
  if (Counted* counted = state_->published()) counted->queue.Observe(seconds);
}

void Metrics::observe_first_token(double seconds) {
  if (Counted* counted = state_->published()) counted->first_token.Observe(seconds);
}

void Metrics::observe_prefill_time(double seconds) {
  if (Counted* counted = state_->published()) counted->prefill.Observe(seconds);
}

void Metrics::observe_decode_time(double seconds) {
  if (Counted* counted = state_->published()) counted->decode.Observe(seconds);
}

void Metrics::observe_inter_token(double seconds) {
  if (Counted* counted = state_->published()) counted->inter_token.Observe(seconds);
}

void Metrics::observe_finished(std::string_view reason, double seconds, int prompt_tokens,
                               int generated_tokens) {
  Counted* counted = state_->published();
  if (counted == nullptr) return;
  counted->finished.Add({{"finished_reason", std::string(reason)}}).Increment();
  counted->request.Observe(seconds);
  counted->request_prompt_tokens.Observe(prompt_tokens);
  counted->request_generation_tokens.Observe(generated_tokens);
}

void Metrics::count_rejected(std::string_view reason) {
  state_->rejected.Add({{"reason", std::string(reason)}}).Increment();
}

void Metrics::count_cancelled(std::string_view cause) {
  state_->cancelled.Add({{"cause", std::string(cause)}}).Increment();
}

void Metrics::count_auth_failure(std::string_view door) {
  state_->auth_failures.Add({{"door", std::string(door)}}).Increment();
}

void Metrics::set_certificate_expiry(std::int64_t unix_seconds) {
  state_->certificate_expiry = unix_seconds;
}

void Metrics::count_tenant(const std::string& tenant, const Usage& usage) {
  const std::string name = tenant.empty() ? "default" : tenant;
  state_->tenant_requests.Add({{"tenant", name}}).Increment();
  state_->tenant_tokens.Add({{"kind", "prompt"}, {"tenant", name}}).Increment(usage.prompt_tokens);
  state_->tenant_tokens.Add({{"kind", "output"}, {"tenant", name}})
      .Increment(usage.completion_tokens);
  state_->tenant_cache.Add({{"tenant", name}}).Increment(usage.cost.kv_byte_seconds);
}

void Metrics::count_spans_exported(int spans) { state_->spans_exported.Increment(spans); }

void Metrics::count_spans_dropped(std::string_view reason, int spans) {
  state_->spans_dropped.Add({{"reason", std::string(reason)}}).Increment(spans);
}

void Metrics::count_device_error(std::string_view kind) {
  state_->device_errors.Add({{"kind", std::string(kind)}}).Increment();
}

std::vector<HistogramSnapshot> Metrics::latencies() {
  std::vector<HistogramSnapshot> snapshots;
  const Counted* counted = state_->published();
  if (counted == nullptr) return snapshots;
  const auto add = [&snapshots](const char* name, const prometheus::Histogram& histogram) {
    HistogramSnapshot& snapshot = snapshots.emplace_back();
    snapshot.name = name;
    for (const auto& bucket : histogram.Collect().histogram.bucket) {
      snapshot.bounds.push_back(bucket.upper_bound);
      snapshot.counts.push_back(bucket.cumulative_count);
    }
  };
  add("first_token", counted->first_token);
  add("inter_token", counted->inter_token);
  add("request", counted->request);
  add("queue", counted->queue);
  return snapshots;
}

std::string Metrics::scrape() {
  Families families = state_->registry.Collect();
  append_process_metrics(state_->server_state(), families);
  append_certificate_metrics(state_->certificate_expiry, families);
  if (Counted* counted = state_->published()) {
    append_engine_metrics(state_->engine, families);
    Families more = counted->registry.Collect();
    std::ranges::move(more, std::back_inserter(families));
  }
  add_aliases(families);
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace latentd

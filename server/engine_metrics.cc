#include "server/engine_metrics.h"

#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <limits>

#include "server/version.h"
#include "server/wall_clock.h"

namespace latentd {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

ClientMetric sample(MetricType type, double value, Labels labels) {
  ClientMetric metric;
  metric.label = std::move(labels);
  if (type == MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  return metric;
}

// Adds families of one metric or more, all with the same labels in front.
class Builder final {
 public:
  Builder(std::vector<MetricFamily>& out, Labels common) : out_(out), common_(std::move(common)) {}

  void gauge(const char* name, const char* help, double value) {
    add(MetricType::Gauge, name, help, value);
  }
  void counter(const char* name, const char* help, std::uint64_t value) {
    add(MetricType::Counter, name, help, static_cast<double>(value));
  }
  void labelled(const char* name, const char* help,
                const std::vector<std::pair<Labels, double>>& values) {
    MetricFamily family{name, help, MetricType::Gauge, {}};
    for (const auto& [labels, value] : values) {
      Labels all = common_;
      all.insert(all.end(), labels.begin(), labels.end());
      family.metric.push_back(sample(MetricType::Gauge, value, std::move(all)));
    }
    out_.push_back(std::move(family));
  }
  void summary(const char* name, const char* help, std::uint64_t count, double sum) {
    ClientMetric metric;
    metric.label = common_;
    metric.summary.sample_count = count;
    metric.summary.sample_sum = sum;
    out_.push_back({name, help, MetricType::Summary, {std::move(metric)}});
  }

  void histogram(const char* name, const char* help, const StepTokens& values) {
    ClientMetric metric;
    metric.label = common_;
    std::uint64_t cumulative = 0;
    for (std::size_t i = 0; i < values.counts.size(); ++i) {
      cumulative += values.counts[i];
      const bool last = i == StepTokens::kBounds.size();
      metric.histogram.bucket.push_back(
          {cumulative, last ? std::numeric_limits<double>::infinity() : StepTokens::kBounds[i]});
    }
    metric.histogram.sample_count = cumulative;
    metric.histogram.sample_sum = static_cast<double>(values.sum);
    out_.push_back({name, help, MetricType::Histogram, {std::move(metric)}});
  }

 private:
  void add(MetricType type, const char* name, const char* help, double value) {
    out_.push_back({name, help, type, {sample(type, value, common_)}});
  }

  std::vector<MetricFamily>& out_;
  const Labels common_;
};

void append_cache(Builder& build, const EngineInfo& info, const EngineStats& stats) {
  const BlockManagerStats& blocks = stats.scheduler.blocks;
  const auto count = [](int pages) { return static_cast<double>(pages); };
  build.gauge("latentd_kv_cache_usage_perc",
              "Share of the cache that is in use or promised, 0 to 1", blocks.usage());
  build.labelled("latentd_kv_pages", "Pages of the cache; used, cached and free are all there are",
                 {{{{"state", "used"}}, count(blocks.used)},
                  {{{"state", "cached"}}, count(blocks.cached)},
                  {{{"state", "free"}}, count(blocks.free)},
                  {{{"state", "promised"}}, count(blocks.promised)}});
  build.labelled("latentd_cache_config_info", "How the cache is laid out",
                 {{{{"block_size", std::to_string(info.page_tokens)},
                    {"num_gpu_blocks", std::to_string(info.num_pages)},
                    {"cache_dtype", std::string(dtype_name(info.kv_cache_dtype))}},
                   1.0}});
  build.gauge("latentd_kv_bytes_per_token", "Cache that one token takes, all layers",
              static_cast<double>(info.kv_bytes_per_token));
  build.gauge("latentd_kv_bytes_per_token_mha",
              "Cache that full keys and values of the same shape would take",
              static_cast<double>(info.mha_kv_bytes_per_token));
  // Whoever ends gives back what it holds, at once or within the steps in flight.
  const bool idle = stats.scheduler.num_running == 0 && stats.scheduler.num_waiting == 0;
  build.gauge("latentd_kv_pages_leaked", "Pages in use although nothing runs or waits",
              idle ? count(blocks.used) : 0.0);
  build.counter("latentd_kv_evictions_total", "Cached pages given to others", blocks.evictions);
}

double process_cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

struct MemoryBytes {
  double size = 0.0;
  double resident = 0.0;
};

MemoryBytes memory_bytes() {
  std::ifstream statm("/proc/self/statm");
  MemoryBytes pages;
  statm >> pages.size >> pages.resident;
  const auto page = static_cast<double>(sysconf(_SC_PAGESIZE));
  return {pages.size * page, pages.resident * page};
}

// Field 22 of /proc/self/stat, in ticks since the machine started; the fields before it are skipped
// from the end of the program's name, which may hold anything. proc(5)
double start_time_seconds() {
  std::ifstream stat("/proc/self/stat");
  stat.ignore(std::numeric_limits<std::streamsize>::max(), ')');
  std::string skipped;
  for (int field = 3; field < 22; ++field) stat >> skipped;
  double ticks = 0.0;
  stat >> ticks;
  timespec since_boot{};
  clock_gettime(CLOCK_BOOTTIME, &since_boot);
  const double uptime =
      static_cast<double>(since_boot.tv_sec) + static_cast<double>(since_boot.tv_nsec) * 1e-9;
  return wall_seconds_now() - uptime + ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

double max_open_files() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  return static_cast<double>(limit.rlim_cur);
}

double open_files() {
  std::error_code error;
  double count = 0.0;
  for (std::filesystem::directory_iterator it("/proc/self/fd", error), end; !error && it != end;
       it.increment(error)) {
    ++count;
  }
  return count;
}

}  // namespace

void append_engine_metrics(const EngineMetricsSource& source, std::vector<MetricFamily>& out) {
  const EngineStats stats = source.stats();
  const SchedulerStats& scheduler = stats.scheduler;
  Builder build(out, {{"engine", "0"}, {"model_name", source.model_name}});
  build.gauge("latentd_num_requests_running", "Sequences in a slot", scheduler.num_running);
  build.gauge("latentd_num_requests_waiting", "Sequences that wait for a slot",
              scheduler.num_waiting + static_cast<double>(stats.mailbox_depth));
  append_cache(build, source.info, stats);
  build.counter("latentd_generation_tokens_total", "Tokens sampled", scheduler.generated_tokens);
  build.counter("latentd_prompt_tokens_computed_total", "Prompt tokens that the model ran",
                scheduler.prompt_tokens_computed);
  build.counter("latentd_prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache",
                scheduler.prefix_queried_tokens);
  build.counter("latentd_prefix_cache_hits_total", "Prompt tokens found there",
                scheduler.prompt_tokens_cached);
  build.counter("latentd_num_preemptions_total", "Sequences put back to be computed again",
                scheduler.preemptions);
  build.summary("latentd_engine_step_seconds",
                "Time spent in steps of the engine, with what lies between two in a row",
                stats.steps, stats.step_seconds_total);
  build.histogram("latentd_iteration_tokens_total", "Tokens that a step of the engine computed",
                  stats.step_tokens);
  build.gauge("latentd_engine_step_tokens", "Tokens of the last step", stats.last_step_tokens);
  if (stats.heartbeat != TimePoint{}) {
    build.gauge("latentd_engine_heartbeat_timestamp", "When the engine was last seen alive",
                wall_seconds_now() - to_seconds(steady_now() - stats.heartbeat));
  }
  build.gauge("latentd_weight_bytes", "Bytes of weights",
              static_cast<double>(source.info.weight_bytes));
  std::vector<std::pair<Labels, double>> memory;
  for (const MemoryUse& use : source.info.memory) {
    memory.push_back({{{"purpose", use.purpose}}, static_cast<double>(use.bytes)});
  }
  build.labelled("latentd_memory_bytes", "What memory was given to at start", memory);
  build.labelled("latentd_engine_info", "What the engine runs on",
                 {{{{"device", source.info.device},
                    {"attention", source.info.attention},
                    {"dtype", std::string(dtype_name(source.info.activation_dtype))},
                    {"kv_cache_dtype", std::string(dtype_name(source.info.kv_cache_dtype))}},
                   1.0}});
}

void append_process_metrics(ServerState state, std::vector<MetricFamily>& out) {
  Builder build(out, {});
  std::vector<std::pair<Labels, double>> states;
  for (const ServerState each :
       {ServerState::kLoading, ServerState::kReady, ServerState::kDraining, ServerState::kFailed}) {
    states.push_back(
        {{{"state", std::string(server_state_name(each))}}, each == state ? 1.0 : 0.0});
  }
  build.labelled("latentd_state", "1 for the state that the server is in", states);
  build.labelled("latentd_build_info", "This build", {{{{"version", std::string(kVersion)}}, 1.0}});
  out.push_back({"process_cpu_seconds_total",
                 "User and system time",
                 MetricType::Counter,
                 {sample(MetricType::Counter, process_cpu_seconds(), {})}});
  const MemoryBytes memory = memory_bytes();
  build.gauge("process_resident_memory_bytes", "Resident memory", memory.resident);
  build.gauge("process_virtual_memory_bytes", "Address space in use", memory.size);
  build.gauge("process_open_fds", "Open file descriptors", open_files());
  build.gauge("process_max_fds", "How many there may be", max_open_files());
  build.gauge("process_start_time_seconds", "When the process began", start_time_seconds());
}

void append_certificate_metrics(std::int64_t expiry_unix, std::vector<MetricFamily>& out) {
  if (expiry_unix == 0) return;
  Builder(out, {}).gauge("latentd_certificate_expiry_timestamp_seconds",
                         "When the certificate of the doors ends",
                         static_cast<double>(expiry_unix));
}

}  // namespace latentd

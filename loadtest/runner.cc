#include "loadtest/runner.h"

#include <spdlog/fmt/fmt.h>
#include <sys/resource.h>
#include <sys/time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>

#include "loadtest/worker.h"

namespace latentd::loadtest {
namespace {

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double load_average() {
  double load = 0.0;
  return getloadavg(&load, 1) == 1 ? load : 0.0;
}

// What one thread works with.
struct Lane {
  Lane(const RecorderOptions& options, Live& live) : recorder(options, live) {}
  Recorder recorder;
  std::unique_ptr<TransportContext> context;
  std::unique_ptr<Transport> transport;
  std::unique_ptr<Worker> worker;
};

void print_progress(const Live& live, double seconds, std::uint64_t& last_tokens) {
  const std::uint64_t tokens = live.tokens.load();
  fmt::print(stderr, "\r{:6.0f} s  sent {}  done {}  failed {}  in flight {}  {} tokens/s   ",
             seconds, live.sent.load(), live.completed.load(), live.failed.load(),
             live.in_flight.load(), tokens - last_tokens);
  last_tokens = tokens;
  std::fflush(stderr);
}

// A server with keys asks for one at its metrics too: the run's, or any tenant's.
std::string metrics_key(const Scenario& scenario, const RunOptions& options) {
  std::string key = options.target.api_key;
  for (const Tenant& tenant : scenario.tenants) {
    if (key.empty()) key = tenant.api_key;
  }
  return key;
}

// Until all lanes are through: the progress line and the server's own figures, once a second.
void watch(const RunOptions& options, const Live& live, const std::atomic<int>& running,
           TimePoint start, ServerMetrics& server) {
  std::uint64_t last_tokens = 0;
  for (int tick = 1; running.load() > 0; ++tick) {
    const TimePoint next = start + std::chrono::seconds(tick);
    while (running.load() > 0 && steady_now() < next) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    if (running.load() == 0) break;
    if (options.progress) print_progress(live, tick, last_tokens);
    if (!options.metrics_url.empty()) server.sample(tick);
  }
  if (options.progress) fmt::print(stderr, "\n");
}

Status prepare(Lane& lane, const Scenario& scenario, const RunOptions& options,
               const std::vector<PlannedRequest>& plan) {
  lane.context = std::make_unique<TransportContext>(
      TransportContext{options.target, scenario, plan, lane.recorder});
  auto transport = options.target.api == Api::kGrpc ? make_grpc_transport(*lane.context)
                                                    : make_http_transport(*lane.context);
  if (!transport.ok()) return transport.status();
  lane.transport = std::move(*transport);
  return ok_status();
}

void collect(std::vector<std::unique_ptr<Lane>>& lanes, RunResult& result) {
  for (const auto& lane : lanes) {
    result.measures.merge(lane->recorder.measures());
    const auto& outcomes = lane->recorder.outcomes();
    result.outcomes.insert(result.outcomes.end(), outcomes.begin(), outcomes.end());
  }
  std::ranges::sort(result.outcomes, {}, &Outcome::index);
}

}  // namespace

std::uint64_t raise_file_limit() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}

Result<RunResult> run_scenario(const Scenario& scenario, const RunOptions& options,
                               const std::atomic<bool>& stop) {
  std::vector<TraceEntry> trace;
  if (scenario.process == Process::kTrace) {
    LATENTD_ASSIGN_OR_RETURN(trace, read_trace(scenario.trace));
  }
  LATENTD_ASSIGN_OR_RETURN(const std::vector<PlannedRequest> plan, make_plan(scenario, trace));
  std::vector<std::size_t> sessions;
  for (std::size_t i = 0; i < plan.size(); ++i) {
    if (plan[i].first_turn) sessions.push_back(i);
  }

  RunResult result;
  result.planned = plan.size();
  if (!options.metrics_url.empty()) {
    result.server.begin(options.metrics_url, metrics_key(scenario, options));
  }
  Live live;
  SessionCounter next_session{0};
  std::vector<std::unique_ptr<Lane>> lanes;
  RecorderOptions recorder;
  recorder.start = steady_now() + std::chrono::milliseconds(50);  // threads first, then requests
  recorder.warmup_s = scenario.warmup_s;
  recorder.end_s = scenario.duration_s;
  recorder.slo = scenario.slo;
  recorder.num_tenants = scenario.tenants.size();
  recorder.keep_outcomes = options.keep_outcomes;
  for (int i = 0; i < options.threads; ++i) {
    lanes.push_back(std::make_unique<Lane>(recorder, live));
    LATENTD_RETURN_IF_ERROR(prepare(*lanes.back(), scenario, options, plan));
    lanes.back()->worker = std::make_unique<Worker>(scenario, plan, sessions, next_session,
                                                    WorkerShare{i, options.threads, recorder.start},
                                                    *lanes.back()->transport);
  }

  const double cpu_before = cpu_seconds();
  std::atomic<int> running{options.threads};
  std::vector<std::thread> threads;
  threads.reserve(lanes.size());
  for (const auto& lane : lanes) {
    threads.emplace_back([&running, &stop, worker = lane->worker.get()] {
      worker->run(stop);
      running.fetch_sub(1);
    });
  }
  watch(options, live, running, recorder.start, result.server);
  for (std::thread& thread : threads) thread.join();
  result.cpu_s = cpu_seconds() - cpu_before;
  result.wall_s = to_seconds(steady_now() - recorder.start);
  result.load_average = load_average();
  result.interrupted = stop.load();
  if (!options.metrics_url.empty()) result.server.end();
  collect(lanes, result);
  return result;
}

}  // namespace latentd::loadtest

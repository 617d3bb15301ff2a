// What a step of the scheduler costs: schedule + commit + drain_events, without a model.
//
//   bench_scheduler                                  all cases
//   bench_scheduler --benchmark_filter=Steady        slots are what is short
//
// Counters: p50_us, p99_us of one step by the wall clock; cpu_p50_us, cpu_p99_us of the thread's
// CPU time, which does not count what a busy machine gives to others; allocations of all steps
// together. Goal (256 running, 4,096 waiting): p99 <= 100 us, no allocation, and 64 waiting cost
// the same.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <ctime>
#include <vector>

#include "tests/support/allocation_counter.h"
#include "tests/support/scheduler_load.h"

namespace latentd {
namespace {

constexpr int kWarmUpSteps = 600;

double micros_of(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) * 1e-3;
}

double percentile(std::vector<double>& values, double share) {
  std::ranges::sort(values);
  return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1))];
}

void measure(benchmark::State& state, const LoadOptions& options) {
  SchedulerLoad load(options);
  load.fill_queue();
  for (int i = 0; i < kWarmUpSteps; ++i) {
    load.step();
    load.fill_queue();
  }
  std::vector<double> wall(static_cast<std::size_t>(state.max_iterations));
  std::vector<double> cpu(wall.size());
  std::uint64_t allocations = 0;
  std::size_t at = 0;
  for (auto _ : state) {
    const std::uint64_t allocated = num_allocations();
    const double cpu_start = micros_of(CLOCK_THREAD_CPUTIME_ID);
    const double start = micros_of(CLOCK_MONOTONIC);
    load.step();
    wall[at] = micros_of(CLOCK_MONOTONIC) - start;
    cpu[at] = micros_of(CLOCK_THREAD_CPUTIME_ID) - cpu_start;
    allocations += num_allocations() - allocated;
    state.SetIterationTime(wall[at] * 1e-6);
    ++at;
    load.fill_queue();
  }
  state.counters["p50_us"] = percentile(wall, 0.5);
  state.counters["p99_us"] = percentile(wall, 0.99);
  state.counters["cpu_p50_us"] = percentile(cpu, 0.5);
  state.counters["cpu_p99_us"] = percentile(cpu, 0.99);
  state.counters["allocations"] = static_cast<double>(allocations);
}
LoadOptions load_of(const benchmark::State& state) {
  LoadOptions options;
  options.num_waiting = static_cast<int>(state.range(0));
  options.pipeline_depth = static_cast<int>(state.range(1));
  return options;
}

// Slots are what is short; half of every prompt is the same in all.
void steady(benchmark::State& state) { measure(state, load_of(state)); }

// Pages are what is short: heads do not fit and are passed.
void short_of_pages(benchmark::State& state) {
  LoadOptions options = load_of(state);
  options.shared_tokens = 0;
  options.num_pages = 2000;
  measure(state, options);
}

// All ask for one prompt, of which only the last page is each one's own.
void one_prompt(benchmark::State& state) {
  LoadOptions options = load_of(state);
  options.shared_tokens = 480;
  measure(state, options);
}

void arguments(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"waiting", "depth"})
      ->ArgsProduct({{64, 4096}, {1, 2}})
      ->Iterations(4000)
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond);
}

BENCHMARK(steady)->Name("Steady")->Apply(arguments);
BENCHMARK(short_of_pages)->Name("ShortOfPages")->Apply(arguments);
BENCHMARK(one_prompt)->Name("OnePrompt")->Apply(arguments);

}  // namespace
}  // namespace latentd

BENCHMARK_MAIN();

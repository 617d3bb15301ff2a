// latentd-sim: what the scheduler would make of a traffic, without a model. See docs/loadtest.md.
//
//   latentd-bench --model DIR --csv > bench.csv
//   latentd-sim --bench bench.csv --scenario loadtest/scenarios/chat.yaml --max-num-seqs 8,64
#include <spdlog/fmt/fmt.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>

#include "base/clock.h"
#include "loadtest/histogram.h"
#include "loadtest/plan.h"
#include "loadtest/scenario.h"
#include "loadtest/sim/simulator.h"

namespace latentd::loadtest {
namespace {

struct Options {
  std::string bench, cost, scenario, trace;
  double rate = 0.0, time_scale = 0.0, length_scale = 0.0, duration = 0.0, warmup = -1.0;
  double door_ms = 0.0;
  double step_scale = 1.0;
  std::int64_t requests = 0;
  int max_prompt = 0, max_output = 0, prompt_tokens = 0, output_tokens = 0;
  int chunk = 512;
  int max_model_len = 1024;
  int cache_tokens = 1 << 20;
  int page_tokens = 64;
  int depth = 1;
  int repeat = 1;
  std::uint64_t seed = 1;
  std::vector<int> num_seqs = {256};
  std::vector<int> budget = {2048};
  std::vector<std::string> policies = {"exact"};
};

Result<std::string> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return Status(StatusCode::kNotFound, "cannot read " + path);
  return std::string{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// "step,row,token,pair" in microseconds, or fitted to a bench file.
Result<CostModel> cost_model(const Options& options) {
  CostModel model;
  if (!options.cost.empty()) {
    if (std::sscanf(options.cost.c_str(), "%lf,%lf,%lf,%lf", &model.step, &model.row, &model.token,
                    &model.pair) != 4) {
      return invalid_argument("cost", "must be step,row,token,pair in microseconds");
    }
    model = {model.step * 1e-6, model.row * 1e-6, model.token * 1e-6, model.pair * 1e-6};
  } else {
    LATENTD_ASSIGN_OR_RETURN(const std::string text, read_file(options.bench));
    LATENTD_ASSIGN_OR_RETURN(const auto rows, parse_bench_csv(text, options.chunk));
    LATENTD_ASSIGN_OR_RETURN(const Fit fit, fit_cost_model(rows));
    fmt::print("fitted to {} rows, off by {:.1f} % on average, {:.1f} % at worst\n", rows.size(),
               fit.mean_error * 100.0, fit.worst_error * 100.0);
    model = fit.model;
  }
  model = {model.step * options.step_scale, model.row * options.step_scale,
           model.token * options.step_scale, model.pair * options.step_scale};
  fmt::print(
      "a step takes {:.1f} us + {:.2f} a decode row + {:.3f} a prefill token + {:.5f} a pair\n",
      model.step * 1e6, model.row * 1e6, model.token * 1e6, model.pair * 1e6);
  return model;
}

Result<Scenario> scenario_of(const Options& options) {
  Scenario scenario;
  if (!options.scenario.empty()) {
    LATENTD_ASSIGN_OR_RETURN(scenario, read_scenario(options.scenario));
  }
  if (!options.trace.empty()) {
    scenario.trace = options.trace;
    scenario.process = Process::kTrace;
  }
  const auto set = [](auto from, auto& to) {
    if (from > 0) to = from;
  };
  set(options.rate, scenario.rate);
  set(options.time_scale, scenario.time_scale);
  set(options.length_scale, scenario.length_scale);
  set(options.duration, scenario.duration_s);
  set(options.requests, scenario.requests);
  set(options.max_prompt, scenario.max_prompt_tokens);
  set(options.max_output, scenario.max_output_tokens);
  if (options.warmup >= 0.0) scenario.warmup_s = options.warmup;
  scenario.seed = options.seed;
  for (Tenant& tenant : scenario.tenants) {
    if (options.prompt_tokens > 0) {
      tenant.prompt_tokens = {0.0, 0.0, options.prompt_tokens, options.prompt_tokens};
    }
    if (options.output_tokens > 0) {
      tenant.output_tokens = {0.0, 0.0, options.output_tokens, options.output_tokens};
    }
    if (tenant.turns > 1) {
      return invalid_argument("turns", "the simulator has open loops without sessions only");
    }
  }
  if (scenario.process == Process::kClosed) {
    return invalid_argument("process", "the simulator has open loops only");
  }
  LATENTD_RETURN_IF_ERROR(validate(scenario));
  return scenario;
}

// The scenario's requests; a trace may be played several times over, one after the other.
Result<std::vector<PlannedRequest>> plan_of(const Options& options, const Scenario& scenario) {
  std::vector<TraceEntry> trace;
  if (scenario.process == Process::kTrace) {
    LATENTD_ASSIGN_OR_RETURN(trace, read_trace(scenario.trace));
    const std::size_t size = trace.size();
    const double length = trace.back().at_seconds;
    for (int turn = 1; turn < options.repeat; ++turn) {
      for (std::size_t i = 0; i < size; ++i) {
        TraceEntry entry = trace[i];
        entry.at_seconds += turn * length;
        trace.push_back(std::move(entry));
      }
    }
  }
  return make_plan(scenario, trace);
}

struct Figures {
  Histogram ttft, itl, e2e, queue;
  std::uint64_t cached = 0, prompt = 0;
};

Figures figures_of(const SimResult& result, const std::vector<SimRequest>& requests,
                   double warmup_s) {
  Figures figures;
  const auto us = [](double seconds) {
    return static_cast<std::uint64_t>(std::max(0.0, seconds) * 1e6);
  };
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const SimOutcome& outcome = result.outcomes[i];
    if (outcome.first_s < 0.0 || requests[i].at_seconds < warmup_s) continue;
    figures.ttft.record(us(outcome.first_s));
    figures.e2e.record(us(outcome.end_s));
    figures.queue.record(us(outcome.queue_s));
    figures.cached += static_cast<std::uint64_t>(outcome.cached_tokens);
    figures.prompt += static_cast<std::uint64_t>(requests[i].prompt_tokens);
  }
  return figures;
}

Result<SimOptions> sim_options(const Options& options, const CostModel& cost,
                               const std::string& policy, int num_seqs, int budget) {
  SimOptions sim;
  sim.cost = cost;
  sim.door_s = options.door_ms * 1e-3;
  sim.page_tokens = options.page_tokens;
  sim.num_pages = options.cache_tokens / options.page_tokens;
  sim.scheduler.max_num_seqs = num_seqs;
  sim.scheduler.max_num_batched_tokens = budget;
  sim.scheduler.max_model_len = options.max_model_len;
  sim.scheduler.pipeline_depth = options.depth;
  if (policy == "overcommit") {
    sim.scheduler.overcommit = true;
  } else if (policy == "no-prefix-cache") {
    sim.scheduler.prefix_cache = false;
  } else if (policy != "exact") {
    return invalid_argument("policy", "must be exact, overcommit or no-prefix-cache");
  }
  return sim;
}

Status run_one(const Scenario& scenario, const SimOptions& sim, const std::string& policy,
               const std::vector<PlannedRequest>& plan) {
  std::vector<SimRequest> requests;
  requests.reserve(plan.size());
  for (const PlannedRequest& planned : plan) {
    const Tenant& tenant = scenario.tenants[static_cast<std::size_t>(planned.tenant)];
    requests.push_back(
        {planned.at_seconds, planned.prompt_tokens(), planned.max_tokens, tenant.priority});
  }
  Histogram gaps;
  const auto make_prompt = [&plan](std::size_t index, std::vector<TokenId>& out) {
    append_tokens(plan[index], TokenRange(), out);
  };
  const auto on_gap = [&gaps](double seconds) {
    gaps.record(static_cast<std::uint64_t>(seconds * 1e6));
  };
  const TimePoint begin = steady_now();
  LATENTD_ASSIGN_OR_RETURN(const SimResult result, simulate(sim, requests, make_prompt, on_gap));
  const double took = to_seconds(steady_now() - begin);
  const Figures figures = figures_of(result, requests, scenario.warmup_s);
  const auto ms = [](const Histogram& histogram, double q) { return histogram.quantile(q) * 1e-3; };
  fmt::print(
      "{:<16}{:>6}{:>8}{:>10.1f}{:>10.1f}{:>10.1f}{:>9.2f}{:>9.2f}{:>10.1f}{:>10.1f}{:>7.1f}{:>7."
      "1f}"
      "{:>8}{:>8}{:>8.1f}\n",
      policy, sim.scheduler.max_num_seqs, sim.scheduler.max_num_batched_tokens,
      figures.ttft.mean() * 1e-3, ms(figures.ttft, 0.5), ms(figures.ttft, 0.99), ms(gaps, 0.5),
      ms(gaps, 0.99), figures.e2e.mean() * 1e-3,
      static_cast<double>(result.stats.generated_tokens) / result.simulated_s,
      result.busy_s / result.simulated_s * 100.0,
      figures.prompt > 0
          ? 100.0 * static_cast<double>(figures.cached) / static_cast<double>(figures.prompt)
          : 0.0,
      result.stats.preemptions, result.refused, took);
  std::fflush(stdout);
  return ok_status();
}

Status run(const Options& options) {
  LATENTD_ASSIGN_OR_RETURN(const CostModel cost, cost_model(options));
  LATENTD_ASSIGN_OR_RETURN(const Scenario scenario, scenario_of(options));
  LATENTD_ASSIGN_OR_RETURN(const auto plan, plan_of(options, scenario));
  fmt::print("{} requests of scenario {}\n", plan.size(), scenario.name);
  fmt::print("{:<16}{:>6}{:>8}{:>10}{:>10}{:>10}{:>9}{:>9}{:>10}{:>10}{:>7}{:>7}{:>8}{:>8}{:>8}\n",
             "policy", "seqs", "budget", "ttft mean", "p50", "p99", "itl p50", "p99", "e2e mean",
             "tokens/s", "busy%", "hit%", "preempt", "refused", "took s");
  for (const std::string& policy : options.policies) {
    for (const int num_seqs : options.num_seqs) {
      for (const int budget : options.budget) {
        LATENTD_ASSIGN_OR_RETURN(const SimOptions sim,
                                 sim_options(options, cost, policy, num_seqs, budget));
        LATENTD_RETURN_IF_ERROR(run_one(scenario, sim, policy, plan));
      }
    }
  }
  return ok_status();
}

void add_flags(CLI::App& app, Options& o) {
  CLI::Option* bench = app.add_option("--bench", o.bench, "output of latentd-bench --csv");
  app.add_option("--cost", o.cost, "step,row,token,pair in microseconds, instead of a bench")
      ->excludes(bench);
  app.add_option("--chunk", o.chunk, "latentd-bench's --chunk")->check(CLI::PositiveNumber);
  app.add_option("--step-scale", o.step_scale, "factor of the cost: another machine");
  app.add_option("--door-ms", o.door_ms, "what HTTP and tokenisation add");
  app.add_option("--scenario", o.scenario);
  app.add_option("--trace", o.trace);
  app.add_option("--repeat", o.repeat, "play the trace so many times")->check(CLI::PositiveNumber);
  app.add_option("--rate", o.rate);
  app.add_option("--time-scale", o.time_scale);
  app.add_option("--length-scale", o.length_scale);
  app.add_option("--duration", o.duration);
  app.add_option("--warmup", o.warmup);
  app.add_option("--requests", o.requests);
  app.add_option("--seed", o.seed);
  app.add_option("--prompt-tokens", o.prompt_tokens);
  app.add_option("--output-tokens", o.output_tokens);
  app.add_option("--max-prompt-tokens", o.max_prompt);
  app.add_option("--max-output-tokens", o.max_output);
  app.add_option("--max-model-len", o.max_model_len);
  app.add_option("--kv-cache-tokens", o.cache_tokens);
  app.add_option("--page-tokens", o.page_tokens)->check(CLI::IsMember({16, 32, 64}));
  app.add_option("--pipeline-depth", o.depth)->check(CLI::Range(1, 2));
  app.add_option("--max-num-seqs", o.num_seqs, "one or more")->delimiter(',');
  app.add_option("--max-num-batched-tokens", o.budget, "one or more")->delimiter(',');
  app.add_option("--policy", o.policies, "exact, overcommit, no-prefix-cache: one or more")
      ->delimiter(',');
}

int main_or_status(int argc, char** argv) {
  Options options;
  CLI::App app("Replays traffic through latentd's scheduler with a model of what a step costs.",
               "latentd-sim");
  add_flags(app, options);
  CLI11_PARSE(app, argc, argv);
  Status status = options.bench.empty() && options.cost.empty()
                      ? invalid_argument("cost", "give --bench or --cost")
                      : run(options);
  if (status.ok()) return 0;
  fmt::print(stderr, "latentd-sim: {}\n", status.to_string());
  return 2;
}

}  // namespace
}  // namespace latentd::loadtest

int main(int argc, char** argv) { return latentd::loadtest::main_or_status(argc, argv); }

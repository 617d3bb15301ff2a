// latentd-sim: what the scheduler would make of a traffic, without a model. See docs/loadtest.md.
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>

#include "base/clock.h"
#include "loadtest/cost_file.h"
#include "loadtest/plan.h"
#include "loadtest/report.h"
#include "loadtest/sim/bench_csv.h"
#include "loadtest/sim/simulator.h"
#include "loadtest/sim_options.h"
#include "loadtest/virtual_client.h"

namespace latentd::loadtest {
namespace {

Result<std::string> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return Status(StatusCode::kNotFound, "cannot read " + path);
  return std::string{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

Status write_file(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (!file) return Status(StatusCode::kInternal, "cannot write " + path);
  return ok_status();
}

Result<Fit> fit_of(const SimCommand& command, std::size_t& measurements) {
  if (!command.bench.empty()) {
    LATENTD_ASSIGN_OR_RETURN(const std::string text, read_file(command.bench));
    LATENTD_ASSIGN_OR_RETURN(const auto rows,
                             parse_bench_csv(text, command.chunk, command.routed_share));
    measurements = rows.size();
    return fit_cost_model(rows, command.routed_share);
  }
  std::vector<std::string> reports;
  for (const std::string& path : command.reports) {
    LATENTD_ASSIGN_OR_RETURN(reports.emplace_back(), read_file(path));
  }
  measurements = reports.size();
  return fit_to_reports(reports, command.routed_share);
}

Status fit(const SimCommand& command) {
  std::size_t measurements = 0;
  LATENTD_ASSIGN_OR_RETURN(const Fit found, fit_of(command, measurements));
  const std::string json = cost_json(found, measurements);
  if (command.out.empty()) {
    fmt::print("{}", json);
    return ok_status();
  }
  const CostModel& model = found.model;
  fmt::print(
      "a step takes {:.1f} us, a decode row {:.2f} and {:.5f} a pair ({:.5f} more in a crowd), a "
      "prefill token {:.3f} and {:.5f} a pair, all routed experts {:.1f}; a request {:.0f} us "
      "before\n"
      "fitted to {} measurements, off by {:.1f} % on average, {:.1f} % at worst\n",
      model.step * 1e6, model.row * 1e6, model.row_pair * 1e6, model.crowd_pair * 1e6,
      model.token * 1e6, model.token_pair * 1e6, model.experts * 1e6, model.door * 1e6,
      measurements, found.mean_error * 100.0, found.worst_error * 100.0);
  return write_file(command.out, json);
}

Result<CostModel> cost_of(const SimCommand& command) {
  CostModel model;
  if (command.cost.find(',') != std::string::npos) {
    LATENTD_ASSIGN_OR_RETURN(model, parse_cost_list(command.cost));
  } else {
    LATENTD_ASSIGN_OR_RETURN(const std::string text, read_file(command.cost));
    LATENTD_ASSIGN_OR_RETURN(model, parse_cost_json(text));
  }
  if (command.door_ms >= 0.0) model.door = command.door_ms * 1e-3;
  return model;
}

// The scenario's requests; a trace may be played several times over, one after the other.
Result<std::vector<PlannedRequest>> plan_of(const SimCommand& command) {
  std::vector<TraceEntry> trace;
  if (command.scenario.process == Process::kTrace) {
    LATENTD_ASSIGN_OR_RETURN(trace, read_trace(command.scenario.trace));
    const std::size_t size = trace.size();
    const double length = trace.back().at_seconds;
    for (int turn = 1; turn < command.repeat; ++turn) {
      for (std::size_t i = 0; i < size; ++i) {
        TraceEntry entry = trace[i];
        entry.at_seconds += turn * length;
        trace.push_back(std::move(entry));
      }
    }
  }
  return make_plan(command.scenario, trace);
}

struct Combination {
  std::string policy;
  int max_num_seqs = 0;
  int budget = 0;
  double pass_limit_s = 0.0;
};

SimOptions sim_options(const SimCommand& command, const CostModel& cost,
                       const Combination& combination) {
  const Scenario& scenario = command.scenario;
  SimOptions sim;
  sim.cost = cost;
  sim.page_tokens = command.page_tokens;
  sim.num_pages = command.kv_cache_tokens / command.page_tokens;
  sim.max_queue = command.max_queue;
  sim.users = scenario.process == Process::kClosed ? scenario.concurrency : 0;
  sim.end_s = scenario.duration_s;
  sim.scheduler.max_num_seqs = combination.max_num_seqs;
  sim.scheduler.max_num_batched_tokens = combination.budget;
  sim.scheduler.max_model_len = command.max_model_len;
  sim.scheduler.pipeline_depth = command.pipeline_depth;
  sim.scheduler.pass_limit =
      std::chrono::duration_cast<Duration>(std::chrono::duration<double>(combination.pass_limit_s));
  sim.scheduler.overcommit = combination.policy == "overcommit";
  sim.scheduler.prefix_cache = combination.policy != "no-prefix-cache";
  return sim;
}

double mean_queue_ms(const SimResult& result) {
  double sum = 0.0;
  double count = 0.0;
  for (const SimOutcome& outcome : result.outcomes) {
    if (outcome.first_s < 0.0) continue;
    sum += outcome.queue_s;
    count += 1.0;
  }
  return count > 0.0 ? sum / count * 1e3 : 0.0;
}

void print_head() {
  fmt::print("{:<16}{:>5}{:>7}{:>6}{:>10}{:>10}{:>10}{:>10}{:>9}{:>9}{:>10}{:>10}{:>7}{:>7}{:>7}",
             "policy", "seqs", "budget", "pass", "queue", "ttft mean", "p50", "p99", "itl p50",
             "p99", "e2e mean", "tokens/s", "good%", "busy%", "hit%");
  fmt::print("{:>9}{:>9}{:>8}\n", "preempt", "refused", "took s");
}

void print_line(const Combination& combination, const SimResult& result, const Measures& measures,
                double took_s) {
  const TenantMeasures total = measures.total();
  const auto ms = [](const Histogram& histogram, double q) { return histogram.quantile(q) * 1e-3; };
  const auto percent = [](double part, double whole) {
    return whole > 0.0 ? 100.0 * part / whole : 0.0;
  };
  fmt::print(
      "{:<16}{:>5}{:>7}{:>6.1f}{:>10.1f}{:>10.1f}{:>10.1f}{:>10.1f}{:>9.2f}{:>9.2f}{:>10.1f}",
      combination.policy, combination.max_num_seqs, combination.budget, combination.pass_limit_s,
      mean_queue_ms(result), measures.ttft.mean() * 1e-3, ms(measures.ttft, 0.5),
      ms(measures.ttft, 0.99), ms(measures.itl, 0.5), ms(measures.itl, 0.99),
      measures.e2e.mean() * 1e-3);
  fmt::print(
      "{:>10.1f}{:>7.1f}{:>7.1f}{:>7.1f}{:>9}{:>9}{:>8.1f}\n",
      static_cast<double>(result.stats.generated_tokens) / result.simulated_s,
      percent(static_cast<double>(total.good), static_cast<double>(total.completed + total.failed)),
      percent(result.busy_s, result.simulated_s),
      percent(static_cast<double>(total.cached_tokens), static_cast<double>(total.prompt_tokens)),
      result.stats.preemptions, result.refused, took_s);
  std::fflush(stdout);
}

Status run_one(const SimCommand& command, const CostModel& cost, const Combination& combination,
               const std::vector<PlannedRequest>& plan) {
  const TimePoint begin = steady_now();
  VirtualClient client(command.scenario, plan);
  const auto make_prompt = [&plan](std::size_t index, std::vector<TokenId>& out) {
    append_tokens(plan[index], TokenRange(), out);
  };
  LATENTD_ASSIGN_OR_RETURN(
      const SimResult result,
      simulate(sim_options(command, cost, combination), simulated_requests(command.scenario, plan),
               make_prompt, [&client](const SimEvent& event) { client.on_event(event); }));
  const double took_s = to_seconds(steady_now() - begin);
  print_line(combination, result, client.measures(), took_s);
  if (command.json_out.empty()) return ok_status();
  RunOptions run;
  run.target.host = "latentd-sim";
  run.target.port = 0;
  RunResult report;
  report.measures = client.measures();
  report.planned = plan.size();
  report.wall_s = result.simulated_s;
  report.cpu_s = took_s;
  return write_file(command.json_out, make_report(command.scenario, run, report));
}

Status run(const SimCommand& command) {
  LATENTD_ASSIGN_OR_RETURN(const CostModel cost, cost_of(command));
  LATENTD_ASSIGN_OR_RETURN(const auto plan, plan_of(command));
  fmt::print("{} requests of scenario {}; times in ms\n", plan.size(), command.scenario.name);
  print_head();
  for (const std::string& policy : command.policies) {
    for (const int max_num_seqs : command.max_num_seqs) {
      for (const int budget : command.budgets) {
        for (const double pass_limit_s : command.pass_limits_s) {
          LATENTD_RETURN_IF_ERROR(
              run_one(command, cost, {policy, max_num_seqs, budget, pass_limit_s}, plan));
        }
      }
    }
  }
  return ok_status();
}

Status dispatch(const SimCommand& command) {
  switch (command.kind) {
    case SimCommand::Kind::kPrint:
      fmt::print("{}", command.text);
      break;
    case SimCommand::Kind::kFit:
      return fit(command);
    case SimCommand::Kind::kRun:
      return run(command);
  }
  return ok_status();
}

int main_or_status(int argc, char** argv) {
  const Result<SimCommand> command = parse_sim_command(argc, argv);
  const Status status = command.ok() ? dispatch(*command) : command.status();
  if (status.ok()) return 0;
  fmt::print(stderr, "latentd-sim: {}\n", status.to_string());
  return 2;
}

}  // namespace
}  // namespace latentd::loadtest

int main(int argc, char** argv) { return latentd::loadtest::main_or_status(argc, argv); }

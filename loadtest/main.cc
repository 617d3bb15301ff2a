// latentd-loadtest: see docs/loadtest.md.
#include <spdlog/fmt/fmt.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>

#include "loadtest/null_grpc_server.h"
#include "loadtest/options.h"
#include "loadtest/report.h"

namespace latentd::loadtest {
namespace {

std::atomic<bool> g_stop{false};

void on_signal(int) { g_stop.store(true); }

Result<std::string> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return Status(StatusCode::kNotFound, "cannot read " + path);
  return std::string{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

Status write_file(const std::string& path, const std::string& text) {
  if (path.empty()) return ok_status();
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (!file) return Status(StatusCode::kInternal, "cannot write " + path);
  return ok_status();
}

Status write_page(const std::string& path, const std::string& report) {
  if (path.empty()) return ok_status();
  LATENTD_ASSIGN_OR_RETURN(const std::string page, html_report(report));
  return write_file(path, page);
}

Status run(const Command& command) {
  LATENTD_ASSIGN_OR_RETURN(const RunResult result,
                           run_scenario(command.scenario, command.run, g_stop));
  const std::string report = make_report(command.scenario, command.run, result);
  LATENTD_ASSIGN_OR_RETURN(const std::string table, summary_table(report));
  fmt::print("{}", table);
  LATENTD_RETURN_IF_ERROR(write_file(command.json_out, report));
  LATENTD_RETURN_IF_ERROR(write_file(command.requests_out, outcome_lines(result.outcomes)));
  return write_page(command.html_out, report);
}

Status run_sweep(const Command& command) {
  std::uint64_t probes = 0;
  double best_met = 0.0;
  std::string best_report;
  const auto probe = [&](double rate) -> Result<Probe> {
    Scenario scenario = command.scenario;
    // Equal prompts would be found in the prefix cache and flatter every probe but the first.
    scenario.seed = mix(scenario.seed, probes++);
    // A trace has its own times: the sweep scales them.
    if (scenario.process == Process::kTrace) {
      scenario.time_scale *= rate / command.sweep.first_rate;
    }
    scenario.rate = rate;
    LATENTD_ASSIGN_OR_RETURN(const RunResult result, run_scenario(scenario, command.run, g_stop));
    if (result.interrupted) return Status(StatusCode::kCancelled, "interrupted");
    const Probe made = judge(rate, scenario, result, command.sweep);
    fmt::print("{}\n", probe_line(made));
    std::fflush(stdout);
    if (made.met && made.rate > best_met) {
      best_met = made.rate;
      best_report = make_report(scenario, command.run, result);
    }
    return made;
  };
  LATENTD_ASSIGN_OR_RETURN(const std::vector<Probe> made, sweep(command.sweep, probe));
  const double best = best_rate(made);
  if (best > 0.0) {
    fmt::print("highest rate that met the SLO: {:.2f} requests/s\n", best);
  } else {
    fmt::print("no rate met the SLO\n");
  }
  LATENTD_RETURN_IF_ERROR(write_file(command.json_out, sweep_json(made)));
  if (best_report.empty()) return ok_status();
  LATENTD_RETURN_IF_ERROR(write_file(command.report_out, best_report));
  return write_page(command.html_out, best_report);
}

Status show(const Command& command) {
  LATENTD_ASSIGN_OR_RETURN(const std::string report, read_file(command.report_a));
  LATENTD_ASSIGN_OR_RETURN(const std::string table, summary_table(report));
  fmt::print("{}", table);
  return write_page(command.html_out, report);
}

Result<bool> compare(const Command& command) {
  LATENTD_ASSIGN_OR_RETURN(const std::string a, read_file(command.report_a));
  LATENTD_ASSIGN_OR_RETURN(const std::string b, read_file(command.report_b));
  LATENTD_ASSIGN_OR_RETURN(const Comparison comparison, compare_reports(a, b, command.threshold));
  fmt::print("{}", comparison.text);
  return comparison.worse;
}

Status serve_nothing(const Command& command) {
  std::unique_ptr<NullGrpcServer> grpc;
  if (command.null_server.grpc_port >= 0) {
    LATENTD_ASSIGN_OR_RETURN(grpc, NullGrpcServer::start(command.null_server));
  }
  return run_null_server(command.null_server, g_stop, [&grpc](int port) {
    fmt::print("listening on http://127.0.0.1:{}", port);
    if (grpc) fmt::print(", grpc 127.0.0.1:{}", grpc->port());
    fmt::print("\n");
    std::fflush(stdout);
  });
}

Result<int> dispatch(const Command& command) {
  Status status;
  switch (command.kind) {
    case Command::Kind::kPrint:
      fmt::print("{}", command.text);
      break;
    case Command::Kind::kRun:
      status = run(command);
      break;
    case Command::Kind::kSweep:
      status = run_sweep(command);
      break;
    case Command::Kind::kReport:
      status = show(command);
      break;
    case Command::Kind::kNullServer:
      status = serve_nothing(command);
      break;
    case Command::Kind::kCompare: {
      LATENTD_ASSIGN_OR_RETURN(const bool worse, compare(command));
      return worse ? 1 : 0;
    }
  }
  if (!status.ok()) return status;
  return 0;
}

int main_or_status(int argc, char** argv) {
  raise_file_limit();
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
  std::signal(SIGPIPE, SIG_IGN);
  const Result<Command> command = parse_command(argc, argv);
  const Result<int> code = command.ok() ? dispatch(*command) : Result<int>(command.status());
  if (code.ok()) return *code;
  fmt::print(stderr, "latentd-loadtest: {}\n", code.status().to_string());
  return 2;
}

}  // namespace
}  // namespace latentd::loadtest

int main(int argc, char** argv) { return latentd::loadtest::main_or_status(argc, argv); }

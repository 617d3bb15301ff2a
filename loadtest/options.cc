#include "loadtest/options.h"

#include <CLI/CLI.hpp>

#include "loadtest/scenario_flags.h"
#include "loadtest/url.h"

namespace latentd::loadtest {
namespace {

constexpr const char* kAbout =
    "Sends traffic to an OpenAI-compatible server (or latentd's gRPC) and measures what its users "
    "would see.";

// Where the traffic goes.
struct Aim {
  std::string url = "http://127.0.0.1:8000", api = "completions";
  std::string metrics_url;
  bool no_progress = false;
};

void add_target_flags(CLI::App& app, Aim& o, Command& command) {
  Target& target = command.run.target;
  app.add_option("--url", o.url, "http://host:port, or host:port for gRPC");
  app.add_option("--api", o.api, "completions, chat or grpc")
      ->check(CLI::IsMember({"completions", "chat", "grpc"}));
  app.add_option("--model", target.model, "name to ask for; empty: none is sent");
  app.add_option("--api-key", target.api_key, "for tenants without a key of their own")
      ->envname("LATENTD_LOADTEST_API_KEY");
  app.add_option("--temperature", target.temperature);
  app.add_flag("--ignore-eos,!--no-ignore-eos", target.ignore_eos,
               "answers have exactly the planned length");
  app.add_flag("--token-ids", target.token_ids, "ask for token ids, to count and check exactly");
  app.add_option("--first-token-id", target.tokens.first, "prompts are drawn from here ...");
  app.add_option("--num-token-ids", target.tokens.count, "... and so many ids on")
      ->check(CLI::Range(1, 1 << 24));
  app.add_option("--timeout", target.timeout_s, "seconds a request may take");
  app.add_option("--threads", command.run.threads)->check(CLI::Range(1, 64));
  app.add_option("--grpc-channels", target.grpc_channels, "connections of each thread")
      ->check(CLI::Range(1, 1024));
  app.add_option("--metrics-url", o.metrics_url, "the server's; default URL/metrics; none: off");
  app.add_flag("--no-progress", o.no_progress);
}

Status take_aim(const Aim& o, Command& command) {
  Target& target = command.run.target;
  target.api = o.api == "grpc" ? Api::kGrpc : o.api == "chat" ? Api::kChat : Api::kCompletions;
  LATENTD_ASSIGN_OR_RETURN(const Url url,
                           parse_url(o.url, target.api == Api::kGrpc ? 50051 : 8000));
  target.host = url.host;
  target.port = url.port;
  target.path_prefix = url.path;
  target.slow_reader_bytes_per_s = command.scenario.slow_reader_bytes_per_s;
  command.run.progress = !o.no_progress;
  if (o.metrics_url == "none") return ok_status();
  command.run.metrics_url = o.metrics_url;
  if (o.metrics_url.empty() && target.api != Api::kGrpc) {
    command.run.metrics_url = o.url + "/metrics";
  }
  return ok_status();
}

void add_outputs(CLI::App& app, Command& command) {
  app.add_option("--json", command.json_out, "write the report here");
  app.add_option("--html", command.html_out, "write a page with plots here");
  app.add_option("--requests-out", command.requests_out, "write a JSON line a request here");
}

void add_sweep_flags(CLI::App& app, SweepOptions& sweep) {
  app.add_option("--growth", sweep.growth, "factor from probe to probe until one fails")
      ->check(CLI::Range(1.01, 100.0));
  app.add_option("--precision", sweep.precision, "relative, of the rate found")
      ->check(CLI::Range(0.001, 10.0));
  app.add_option("--max-probes", sweep.max_probes)->check(CLI::Range(1, 100));
  app.add_option("--quantile", sweep.quantile, "of the latencies that must meet the SLO")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--max-failed", sweep.max_failed, "share of requests that may fail")
      ->check(CLI::Range(0.0, 1.0));
}

Status finish_traffic(const ScenarioFlags& flags, const Aim& aim, Command& command) {
  LATENTD_ASSIGN_OR_RETURN(command.scenario, flags.scenario());
  LATENTD_RETURN_IF_ERROR(take_aim(aim, command));
  command.run.keep_outcomes = !command.requests_out.empty();
  command.sweep.first_rate = command.scenario.rate;
  if (command.kind != Command::Kind::kSweep) return ok_status();
  const Process process = command.scenario.process;
  if (process == Process::kClosed) {
    return invalid_argument("process", "a sweep changes the rate: it needs an open loop");
  }
  if (!command.scenario.slo.any()) {
    return invalid_argument("slo", "a sweep needs one: --slo-ttft-ms, --slo-itl-ms, --slo-e2e-ms");
  }
  return ok_status();
}

}  // namespace

Result<Command> parse_command(int argc, const char* const* argv) {
  Command command;
  ScenarioFlags flags;
  Aim aim;
  CLI::App app(kAbout, "latentd-loadtest");
  app.require_subcommand(1);
  CLI::App* run = app.add_subcommand("run", "run a scenario");
  CLI::App* sweep = app.add_subcommand("sweep", "find the highest rate that meets the SLO");
  for (CLI::App* sub : {run, sweep}) {
    add_target_flags(*sub, aim, command);
    flags.add_to(*sub);
  }
  add_outputs(*run, command);
  add_sweep_flags(*sweep, command.sweep);
  sweep->add_option("--json", command.json_out, "write the probes here");
  sweep->add_option("--report", command.report_out,
                    "write the report of the highest rate that met the SLO here");
  sweep->add_option("--html", command.html_out, "write that report as a page here");
  CLI::App* compare = app.add_subcommand("compare", "two reports; exits 1 when B is worse");
  compare->add_option("A", command.report_a)->required();
  compare->add_option("B", command.report_b)->required();
  compare->add_option("--threshold", command.threshold, "relative change that counts");
  CLI::App* report = app.add_subcommand("report", "a table, or a page, from a report");
  report->add_option("REPORT", command.report_a)->required();
  report->add_option("--html", command.html_out);
  CLI::App* null_server = app.add_subcommand("null-server", "answers at once, or at a pace");
  null_server->add_option("--port", command.null_server.port, "0: any free one");
  null_server->add_option("--grpc-port", command.null_server.grpc_port,
                          "answers gRPC there too; 0: any free one");
  null_server->add_option("--tokens-per-s", command.null_server.tokens_per_s, "0: at once");
  null_server->add_option("--first-token-ms", command.null_server.first_token_ms);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    command.text = (app.get_subcommands().empty() ? app : *app.get_subcommands().front()).help();
    return command;
  } catch (const CLI::ParseError& error) {
    return Status(StatusCode::kInvalidArgument, error.what());
  }
  if (run->parsed()) command.kind = Command::Kind::kRun;
  if (sweep->parsed()) command.kind = Command::Kind::kSweep;
  if (compare->parsed()) command.kind = Command::Kind::kCompare;
  if (report->parsed()) command.kind = Command::Kind::kReport;
  if (null_server->parsed()) command.kind = Command::Kind::kNullServer;
  if (run->parsed() || sweep->parsed()) {
    LATENTD_RETURN_IF_ERROR(finish_traffic(flags, aim, command));
  }
  return command;
}

}  // namespace latentd::loadtest

#include "loadtest/options.h"

#include <CLI/CLI.hpp>
#include <optional>

#include "loadtest/url.h"

namespace latentd::loadtest {
namespace {

constexpr const char* kAbout =
    "Sends traffic to an OpenAI-compatible server (or latentd's gRPC) and measures what its users "
    "would see.";

// Flags that change a scenario; unset ones leave the file's values.
struct Overrides {
  std::string scenario, process, trace, url = "http://127.0.0.1:8000", api = "completions";
  std::string metrics_url;
  std::optional<double> rate, cv, time_scale, length_scale, duration, warmup;
  std::optional<int> concurrency, prompt_tokens, output_tokens, max_prompt, max_output;
  std::optional<std::int64_t> requests;
  std::optional<std::uint64_t> seed;
  std::optional<double> cancel_rate, slow_rate, slow_bytes, slo_ttft, slo_itl, slo_e2e;
  bool no_progress = false;
};

void add_traffic_flags(CLI::App& app, Overrides& o) {
  app.add_option("--scenario", o.scenario, "YAML file; the flags below change it");
  app.add_option("--process", o.process, "poisson, gamma, constant, closed or trace");
  app.add_option("--rate", o.rate, "requests a second");
  app.add_option("--cv", o.cv, "gamma: coefficient of variation of the gaps");
  app.add_option("--concurrency", o.concurrency, "closed: users");
  app.add_option("--trace", o.trace, "CSV or JSONL file; implies --process trace");
  app.add_option("--time-scale", o.time_scale, "trace: 2 replays twice as fast");
  app.add_option("--length-scale", o.length_scale, "trace: factor of all lengths");
  app.add_option("--duration", o.duration, "seconds of sending");
  app.add_option("--requests", o.requests, "how many at most");
  app.add_option("--warmup", o.warmup, "seconds left out of the figures");
  app.add_option("--seed", o.seed, "equal seeds make equal traffic");
  app.add_option("--prompt-tokens", o.prompt_tokens, "of every prompt, all tenants");
  app.add_option("--output-tokens", o.output_tokens, "of every answer, all tenants");
  app.add_option("--max-prompt-tokens", o.max_prompt, "cut longer prompts");
  app.add_option("--max-output-tokens", o.max_output, "cut longer answers");
  app.add_option("--cancel-rate", o.cancel_rate, "share of requests hung up on, all tenants");
  app.add_option("--slow-reader-rate", o.slow_rate, "share of slow readers, all tenants");
  app.add_option("--slow-reader-bytes", o.slow_bytes, "bytes a second that they read");
  app.add_option("--slo-ttft-ms", o.slo_ttft, "time to first token that is still good");
  app.add_option("--slo-itl-ms", o.slo_itl, "time between tokens that is still good");
  app.add_option("--slo-e2e-ms", o.slo_e2e, "whole time that is still good");
}

void add_target_flags(CLI::App& app, Overrides& o, Command& command) {
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

template <typename T, typename U>
void set(const std::optional<T>& from, U& to) {
  if (from) to = *from;
}

Status apply(const Overrides& o, Scenario& scenario) {
  if (!o.scenario.empty()) {
    LATENTD_ASSIGN_OR_RETURN(scenario, read_scenario(o.scenario));
  }
  if (!o.process.empty()) {
    LATENTD_ASSIGN_OR_RETURN(scenario.process, parse_process(o.process));
  }
  if (!o.trace.empty()) {
    scenario.trace = o.trace;
    scenario.process = Process::kTrace;
  }
  set(o.rate, scenario.rate);
  set(o.cv, scenario.cv);
  set(o.concurrency, scenario.concurrency);
  set(o.time_scale, scenario.time_scale);
  set(o.length_scale, scenario.length_scale);
  set(o.duration, scenario.duration_s);
  set(o.requests, scenario.requests);
  set(o.warmup, scenario.warmup_s);
  set(o.seed, scenario.seed);
  set(o.max_prompt, scenario.max_prompt_tokens);
  set(o.max_output, scenario.max_output_tokens);
  set(o.slow_bytes, scenario.slow_reader_bytes_per_s);
  set(o.slo_ttft, scenario.slo.ttft_ms);
  set(o.slo_itl, scenario.slo.itl_ms);
  set(o.slo_e2e, scenario.slo.e2e_ms);
  for (Tenant& tenant : scenario.tenants) {
    if (o.prompt_tokens) tenant.prompt_tokens = {0.0, 0.0, *o.prompt_tokens, *o.prompt_tokens};
    if (o.output_tokens) tenant.output_tokens = {0.0, 0.0, *o.output_tokens, *o.output_tokens};
    set(o.cancel_rate, tenant.cancel_rate);
    set(o.slow_rate, tenant.slow_reader_rate);
  }
  return validate(scenario);
}

Status aim(const Overrides& o, Command& command) {
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

Status finish_traffic(const Overrides& overrides, Command& command) {
  LATENTD_RETURN_IF_ERROR(apply(overrides, command.scenario));
  LATENTD_RETURN_IF_ERROR(aim(overrides, command));
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
  Overrides overrides;
  CLI::App app(kAbout, "latentd-loadtest");
  app.require_subcommand(1);
  CLI::App* run = app.add_subcommand("run", "run a scenario");
  CLI::App* sweep = app.add_subcommand("sweep", "find the highest rate that meets the SLO");
  for (CLI::App* sub : {run, sweep}) {
    add_target_flags(*sub, overrides, command);
    add_traffic_flags(*sub, overrides);
  }
  add_outputs(*run, command);
  add_sweep_flags(*sweep, command.sweep);
  sweep->add_option("--json", command.json_out, "write the probes here");
  CLI::App* compare = app.add_subcommand("compare", "two reports; exits 1 when B is worse");
  compare->add_option("A", command.report_a)->required();
  compare->add_option("B", command.report_b)->required();
  compare->add_option("--threshold", command.threshold, "relative change that counts");
  CLI::App* report = app.add_subcommand("report", "a table, or a page, from a report");
  report->add_option("REPORT", command.report_a)->required();
  report->add_option("--html", command.html_out);
  CLI::App* null_server = app.add_subcommand("null-server", "answers at once, or at a pace");
  null_server->add_option("--port", command.null_server.port, "0: any free one");
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
    LATENTD_RETURN_IF_ERROR(finish_traffic(overrides, command));
  }
  return command;
}

}  // namespace latentd::loadtest

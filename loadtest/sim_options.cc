#include "loadtest/sim_options.h"

#include <CLI/CLI.hpp>

#include "loadtest/scenario_flags.h"

namespace latentd::loadtest {
namespace {

void add_fit_flags(CLI::App& app, SimCommand& command) {
  CLI::Option* bench =
      app.add_option("--bench", command.bench, "output of latentd-bench --csv: the engine alone");
  app.add_option("--chunk", command.chunk, "latentd-bench's --chunk")->check(CLI::PositiveNumber);
  app.add_option("--report", command.reports, "reports of latentd-loadtest: the whole server")
      ->excludes(bench);
  app.add_option("--routed-share", command.routed_share,
                 "share of the routed experts that a token takes (num_experts_per_tok / "
                 "n_routed_experts); 0: a dense model")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--out", command.out, "write the cost model here; default: to standard output");
}

void add_run_flags(CLI::App& app, SimCommand& command) {
  app.add_option("--cost", command.cost,
                 "what a step costs: a file of `fit`, or step,row,token,row_pair,token_pair in us")
      ->required();
  app.add_option("--door-ms", command.door_ms, "what comes before the engine; default: the file's");
  app.add_option("--repeat", command.repeat, "play the trace so many times")
      ->check(CLI::PositiveNumber);
  app.add_option("--max-model-len", command.max_model_len)->check(CLI::PositiveNumber);
  app.add_option("--kv-cache-tokens", command.kv_cache_tokens)->check(CLI::PositiveNumber);
  app.add_option("--page-tokens", command.page_tokens)->check(CLI::IsMember({16, 32, 64}));
  app.add_option("--pipeline-depth", command.pipeline_depth)->check(CLI::Range(1, 2));
  app.add_option("--max-queue", command.max_queue, "requests in the house; others are refused")
      ->check(CLI::PositiveNumber);
  app.add_option("--max-num-seqs", command.max_num_seqs, "one or more")->delimiter(',');
  app.add_option("--max-num-batched-tokens", command.budgets, "one or more")->delimiter(',');
  app.add_option("--pass-limit-s", command.pass_limits_s,
                 "seconds for which others may pass a request that does not fit: one or more")
      ->delimiter(',')
      ->check(CLI::NonNegativeNumber);
  app.add_option("--policy", command.policies, "one or more")
      ->delimiter(',')
      ->check(CLI::IsMember({"exact", "overcommit", "no-prefix-cache"}));
  app.add_option("--json", command.json_out,
                 "write a report as latentd-loadtest's here; of one combination");
}

}  // namespace

Result<SimCommand> parse_sim_command(int argc, const char* const* argv) {
  SimCommand command;
  ScenarioFlags flags;
  CLI::App app("Replays traffic through latentd's scheduler with a model of what a step costs.",
               "latentd-sim");
  app.require_subcommand(1);
  CLI::App* fit = app.add_subcommand("fit", "find what a step costs from measurements");
  add_fit_flags(*fit, command);
  CLI::App* run = app.add_subcommand("run", "simulate a scenario, policy by policy");
  add_run_flags(*run, command);
  flags.add_to(*run);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    command.text = (app.get_subcommands().empty() ? app : *app.get_subcommands().front()).help();
    return command;
  } catch (const CLI::ParseError& error) {
    return Status(StatusCode::kInvalidArgument, error.what());
  }
  if (fit->parsed()) {
    command.kind = SimCommand::Kind::kFit;
    if (command.bench.empty() && command.reports.empty()) {
      return invalid_argument("fit", "give --bench, or --report once or more");
    }
    return command;
  }
  command.kind = SimCommand::Kind::kRun;
  LATENTD_ASSIGN_OR_RETURN(command.scenario, flags.scenario());
  const std::size_t combinations = command.max_num_seqs.size() * command.budgets.size() *
                                   command.pass_limits_s.size() * command.policies.size();
  if (!command.json_out.empty() && combinations > 1) {
    return invalid_argument(
        "json", "takes one combination of policies, not " + std::to_string(combinations));
  }
  return command;
}

}  // namespace latentd::loadtest

#include "loadtest/scenario_flags.h"

#include <CLI/CLI.hpp>
#include <algorithm>

namespace latentd::loadtest {
namespace {

template <typename T, typename U>
void set(const std::optional<T>& from, U& to) {
  if (from) to = *from;
}

Length exactly(int tokens) { return {0.0, 0.0, tokens, tokens}; }

}  // namespace

void ScenarioFlags::add_to(CLI::App& app) {
  app.add_option("--scenario", file_, "YAML file; the flags below change it");
  app.add_option("--process", process_, "poisson, gamma, constant, closed or trace");
  app.add_option("--rate", rate_, "requests a second");
  app.add_option("--cv", cv_, "gamma: coefficient of variation of the gaps");
  app.add_option("--concurrency", concurrency_, "closed: users");
  app.add_option("--trace", trace_, "CSV or JSONL file; implies --process trace");
  app.add_option("--time-scale", time_scale_, "trace: 2 replays twice as fast");
  app.add_option("--length-scale", length_scale_, "factor of all lengths, for small models");
  app.add_option("--duration", duration_, "seconds of sending");
  app.add_option("--requests", requests_, "how many at most");
  app.add_option("--warmup", warmup_, "seconds left out of the figures");
  app.add_option("--seed", seed_, "equal seeds make equal traffic");
  app.add_option("--prompt-tokens", prompt_tokens_, "of every prompt, all tenants");
  app.add_option("--output-tokens", output_tokens_, "of every answer, all tenants");
  app.add_option("--max-prompt-tokens", max_prompt_, "cut longer prompts");
  app.add_option("--max-output-tokens", max_output_, "cut longer answers");
  app.add_option("--cancel-rate", cancel_rate_, "share of requests hung up on, all tenants");
  app.add_option("--slow-reader-rate", slow_rate_, "share of slow readers, all tenants");
  app.add_option("--slow-reader-bytes", slow_bytes_, "bytes a second that they read");
  app.add_option("--tenant-key", tenant_keys_, "NAME=KEY: the API key of a tenant of the scenario");
  app.add_option("--slo-ttft-ms", slo_ttft_, "time to first token that is still good");
  app.add_option("--slo-itl-ms", slo_itl_, "time between tokens that is still good");
  app.add_option("--slo-e2e-ms", slo_e2e_, "whole time that is still good");
}

Status ScenarioFlags::set_tenant_keys(Scenario& scenario) const {
  for (const std::string& given : tenant_keys_) {
    const std::size_t equals = given.find('=');
    const std::string name = given.substr(0, equals);
    const auto tenant = std::ranges::find(scenario.tenants, name, &Tenant::name);
    // The key itself stays out of the message.
    if (equals == given.npos || equals + 1 == given.size()) {
      return invalid_argument("tenant-key", "must be NAME=KEY");
    }
    if (tenant == scenario.tenants.end()) {
      return invalid_argument("tenant-key", "the scenario has no tenant '" + name + "'");
    }
    tenant->api_key = given.substr(equals + 1);
  }
  return ok_status();
}

Result<Scenario> ScenarioFlags::scenario() const {
  Scenario scenario;
  if (!file_.empty()) {
    LATENTD_ASSIGN_OR_RETURN(scenario, read_scenario(file_));
  }
  if (!process_.empty()) {
    LATENTD_ASSIGN_OR_RETURN(scenario.process, parse_process(process_));
  }
  if (!trace_.empty()) {
    scenario.trace = trace_;
    scenario.process = Process::kTrace;
  }
  set(rate_, scenario.rate);
  set(cv_, scenario.cv);
  set(concurrency_, scenario.concurrency);
  set(time_scale_, scenario.time_scale);
  set(length_scale_, scenario.length_scale);
  set(duration_, scenario.duration_s);
  set(requests_, scenario.requests);
  set(warmup_, scenario.warmup_s);
  set(seed_, scenario.seed);
  set(max_prompt_, scenario.max_prompt_tokens);
  set(max_output_, scenario.max_output_tokens);
  set(slow_bytes_, scenario.slow_reader_bytes_per_s);
  set(slo_ttft_, scenario.slo.ttft_ms);
  set(slo_itl_, scenario.slo.itl_ms);
  set(slo_e2e_, scenario.slo.e2e_ms);
  for (Tenant& tenant : scenario.tenants) {
    if (prompt_tokens_) tenant.prompt_tokens = exactly(*prompt_tokens_);
    if (output_tokens_) tenant.output_tokens = exactly(*output_tokens_);
    set(cancel_rate_, tenant.cancel_rate);
    set(slow_rate_, tenant.slow_reader_rate);
  }
  LATENTD_RETURN_IF_ERROR(set_tenant_keys(scenario));
  LATENTD_RETURN_IF_ERROR(validate(scenario));
  return scenario;
}

}  // namespace latentd::loadtest

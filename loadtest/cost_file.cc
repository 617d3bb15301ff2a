#include "loadtest/cost_file.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

#include "loadtest/report_reader.h"

namespace latentd::loadtest {
namespace {

constexpr const char* kSchema = "latentd.sim.cost/1";

// JSON names, in microseconds, of the coefficients.
constexpr std::array<std::pair<const char*, double CostModel::*>, 8> kFields = {{
    {"step_us", &CostModel::step},
    {"row_us", &CostModel::row},
    {"token_us", &CostModel::token},
    {"row_pair_us", &CostModel::row_pair},
    {"token_pair_us", &CostModel::token_pair},
    {"crowd_pair_us", &CostModel::crowd_pair},
    {"experts_us", &CostModel::experts},
    {"door_us", &CostModel::door},
}};

Result<Measurement> measurement_of(const ReportReader& report, double routed_share) {
  const auto engine = [&report](const char* field) {
    return report.number({"server", "engine", field});
  };
  Measurement measured;
  measured.seconds = engine("step_seconds");
  measured.work.steps = engine("steps");
  measured.work.prefill_tokens = engine("prefill_tokens");
  measured.work.decode_rows = std::max(0.0, engine("tokens") - engine("prefill_tokens"));
  measured.work.decode_pairs = report.number({"tokens", "decode_pairs"});
  measured.work.prefill_pairs = report.number({"tokens", "prefill_pairs"});
  if (measured.seconds <= 0.0 || measured.work.steps <= 0.0) {
    return invalid_argument("report", "has no figures of latentd's engine (server.engine)");
  }
  // As if all steps were alike: true of closed loops, and few others reach a crowd or few experts.
  measured.work.experts =
      measured.work.steps *
      experts_read(routed_share, (measured.work.decode_rows + measured.work.prefill_tokens) /
                                     measured.work.steps);
  measured.work.crowd_pairs =
      crowd_pairs(measured.work.decode_pairs, measured.work.decode_rows / measured.work.steps);
  return measured;
}

}  // namespace

Result<Fit> fit_to_reports(const std::vector<std::string>& reports, double routed_share) {
  std::vector<Measurement> measurements;
  double door_ms = 1e9;
  for (const std::string& text : reports) {
    LATENTD_ASSIGN_OR_RETURN(const ReportReader report, ReportReader::parse(text));
    LATENTD_ASSIGN_OR_RETURN(const Measurement measured, measurement_of(report, routed_share));
    measurements.push_back(measured);
    door_ms = std::min(door_ms, report.number({"latency_ms", "ttft", "mean"}) -
                                    report.number({"server", "prefill_ms_mean"}));
  }
  LATENTD_ASSIGN_OR_RETURN(Fit fit, fit_cost_model(measurements, routed_share));
  fit.model.door = std::max(0.0, door_ms * 1e-3);
  return fit;
}

std::string cost_json(const Fit& fit, std::size_t measurements) {
  nlohmann::ordered_json json;
  json["schema"] = kSchema;
  for (const auto& [name, member] : kFields) json[name] = fit.model.*member * 1e6;
  json["routed_share"] = fit.model.routed_share;
  json["fitted_to"] = {{"measurements", measurements},
                       {"mean_error", fit.mean_error},
                       {"worst_error", fit.worst_error}};
  return json.dump(1) + "\n";
}

Result<CostModel> parse_cost_json(std::string_view text) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object() || json.value("schema", nlohmann::json()) != kSchema) {
    return invalid_argument("cost", std::string("is not JSON of the schema ") + kSchema);
  }
  CostModel model;
  for (const auto& [name, member] : kFields) {
    if (!json.contains(name) || !json[name].is_number() || json[name].get<double>() < 0.0) {
      return invalid_argument(std::string("cost.") + name, "must be a number of at least 0");
    }
    model.*member = json[name].get<double>() * 1e-6;
  }
  if (!json.contains("routed_share") || !json["routed_share"].is_number()) {
    return invalid_argument("cost.routed_share", "must be a number");
  }
  model.routed_share = json["routed_share"].get<double>();
  if (!(model.routed_share >= 0.0 && model.routed_share <= 1.0)) {
    return invalid_argument("cost.routed_share", "must be in 0..1");
  }
  return model;
}

Result<CostModel> parse_cost_list(const std::string& text) {
  CostModel model;
  int end = 0;
  if (std::sscanf(text.c_str(), "%lf,%lf,%lf,%lf,%lf%n", &model.step, &model.row, &model.token,
                  &model.row_pair, &model.token_pair, &end) != 5 ||
      static_cast<std::size_t>(end) != text.size()) {
    return invalid_argument("cost",
                            "must be a file or step,row,token,row_pair,token_pair in microseconds");
  }
  for (const auto& [name, member] : kFields) {
    if (!(model.*member >= 0.0)) return invalid_argument("cost", "must not be below 0");
    model.*member *= 1e-6;
  }
  return model;
}

}  // namespace latentd::loadtest

#include "loadtest/scenario.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <fstream>
#include <iterator>
#include <set>

namespace latentd::loadtest {
namespace {

// Reads a map's keys; remembers the first fault and which keys were asked for.
class Fields final {
 public:
  Fields(const YAML::Node& node, std::string path, Status& status)
      : node_(node), path_(std::move(path)), status_(status) {
    if (node_.IsDefined() && !node_.IsMap()) fault("", "must be a map");
  }

  template <typename T>
  void read(const std::string& key, T& value) {
    const YAML::Node found = child(key);
    if (!found.IsDefined()) return;
    try {
      value = found.as<T>();
    } catch (const std::exception&) {
      fault(key, "has the wrong type");
    }
  }

  YAML::Node child(const std::string& key) {
    known_.insert(key);
    return node_.IsMap() ? node_[key] : YAML::Node(YAML::NodeType::Undefined);
  }
  std::string path_of(const std::string& key) const {
    return path_.empty() || key.empty() ? path_ + key : path_ + "." + key;
  }
  void fault(const std::string& key, const std::string& what) {
    if (status_.ok()) status_ = invalid_argument(path_of(key), what);
  }
  // REQUIRES: every key was asked for.
  void refuse_others() {
    if (!node_.IsMap()) return;
    for (const auto& item : node_) {
      const auto key = item.first.as<std::string>();
      if (!known_.contains(key)) fault(key, "is not a known field");
    }
  }

 private:
  YAML::Node node_;
  std::string path_;
  Status& status_;
  std::set<std::string> known_;
};

void read_length(Fields& parent, const std::string& key, Length& length, Status& status) {
  const YAML::Node node = parent.child(key);
  if (!node.IsDefined()) return;
  if (node.IsScalar()) {
    int value = 0;
    parent.read(key, value);
    length = {0.0, 0.0, value, value};
    return;
  }
  Fields fields(node, parent.path_of(key), status);
  length = {0.0, 0.0, 1, 1 << 20};
  fields.read("median", length.median);
  fields.read("sigma", length.sigma);
  fields.read("min", length.min);
  fields.read("max", length.max);
  if (length.median > 0.0 && length.sigma <= 0.0) fields.fault("sigma", "must be above 0");
  if (length.median <= 0.0 && !(node["min"] && node["max"])) {
    fields.fault("", "needs median and sigma, or min and max");
  }
  fields.refuse_others();
}

void read_tenant(Fields& fields, Tenant& tenant, Status& status) {
  fields.read("name", tenant.name);
  fields.read("weight", tenant.weight);
  fields.read("api_key", tenant.api_key);
  fields.read("priority", tenant.priority);
  read_length(fields, "prompt_tokens", tenant.prompt_tokens, status);
  read_length(fields, "output_tokens", tenant.output_tokens, status);
  Fields prefix(fields.child("shared_prefix"), fields.path_of("shared_prefix"), status);
  prefix.read("tokens", tenant.prefix_tokens);
  prefix.read("groups", tenant.prefix_groups);
  prefix.refuse_others();
  fields.read("turns", tenant.turns);
  fields.read("think_s", tenant.think_s);
  fields.read("cancel_rate", tenant.cancel_rate);
  fields.read("slow_reader_rate", tenant.slow_reader_rate);
  fields.refuse_others();
}

void read_arrivals(Fields fields, Scenario& scenario) {
  std::string process(process_name(scenario.process));
  fields.read("process", process);
  if (auto parsed = parse_process(process)) {
    scenario.process = *parsed;
  } else {
    fields.fault("process", parsed.status().message());
  }
  fields.read("rate", scenario.rate);
  fields.read("cv", scenario.cv);
  fields.read("concurrency", scenario.concurrency);
  fields.read("trace", scenario.trace);
  fields.read("time_scale", scenario.time_scale);
  fields.read("length_scale", scenario.length_scale);
  fields.refuse_others();
}

void read_tenants(const YAML::Node& node, Scenario& scenario, Status& status) {
  if (!node.IsDefined()) return;
  if (!node.IsSequence() || node.size() == 0) {
    if (status.ok()) status = invalid_argument("tenants", "must be a list of at least one");
    return;
  }
  scenario.tenants.assign(node.size(), Tenant{});
  for (std::size_t i = 0; i < node.size(); ++i) {
    Fields fields(node[i], "tenants[" + std::to_string(i) + "]", status);
    read_tenant(fields, scenario.tenants[i], status);
  }
}

Status read_root(const YAML::Node& root, Scenario& scenario) {
  Status status;
  Fields fields(root, "", status);
  fields.read("name", scenario.name);
  fields.read("description", scenario.description);
  read_arrivals(Fields(fields.child("arrivals"), "arrivals", status), scenario);
  fields.read("duration_s", scenario.duration_s);
  fields.read("requests", scenario.requests);
  fields.read("warmup_s", scenario.warmup_s);
  fields.read("seed", scenario.seed);
  fields.read("max_prompt_tokens", scenario.max_prompt_tokens);
  fields.read("max_output_tokens", scenario.max_output_tokens);
  fields.read("slow_reader_bytes_per_s", scenario.slow_reader_bytes_per_s);
  read_tenants(fields.child("tenants"), scenario, status);
  Fields slo(fields.child("slo"), "slo", status);
  slo.read("ttft_ms", scenario.slo.ttft_ms);
  slo.read("itl_ms", scenario.slo.itl_ms);
  slo.read("e2e_ms", scenario.slo.e2e_ms);
  slo.refuse_others();
  fields.refuse_others();
  return status;
}

Status in_range(const std::string& field, double value, double low, double high) {
  if (value >= low && value <= high) return ok_status();
  const auto text = [](double number) {
    std::string out = std::to_string(number);
    out.erase(out.find_last_not_of('0') + 1);
    if (out.ends_with('.')) out.pop_back();
    return out;
  };
  return invalid_argument(field,
                          "must be " + text(low) + " to " + text(high) + ", got " + text(value));
}

Status validate_tenant(const std::string& at, const Tenant& tenant) {
  constexpr double kMost = 1 << 24;
  LATENTD_RETURN_IF_ERROR(in_range(at + "weight", tenant.weight, 1e-6, 1e6));
  for (const auto& [name, length] : {std::pair{"prompt_tokens", tenant.prompt_tokens},
                                     std::pair{"output_tokens", tenant.output_tokens}}) {
    LATENTD_RETURN_IF_ERROR(in_range(at + name + ".min", length.min, 1, kMost));
    LATENTD_RETURN_IF_ERROR(in_range(at + name + ".max", length.max, length.min, kMost));
  }
  LATENTD_RETURN_IF_ERROR(in_range(at + "shared_prefix.tokens", tenant.prefix_tokens, 0, kMost));
  LATENTD_RETURN_IF_ERROR(in_range(at + "shared_prefix.groups", tenant.prefix_groups, 1, 1e9));
  LATENTD_RETURN_IF_ERROR(in_range(at + "turns", tenant.turns, 1, 1000));
  LATENTD_RETURN_IF_ERROR(in_range(at + "think_s", tenant.think_s, 0, 86400));
  LATENTD_RETURN_IF_ERROR(in_range(at + "cancel_rate", tenant.cancel_rate, 0, 1));
  return in_range(at + "slow_reader_rate", tenant.slow_reader_rate, 0, 1);
}

}  // namespace

int Length::draw(Random& random) const {
  if (sigma > 0.0) {
    const double value = median * std::exp(sigma * random.normal());
    return static_cast<int>(std::clamp(value, static_cast<double>(min), static_cast<double>(max)));
  }
  return min + static_cast<int>(random.below(static_cast<std::uint64_t>(max - min) + 1));
}

Result<Scenario> parse_scenario(std::string_view yaml) {
  Scenario scenario;
  try {
    LATENTD_RETURN_IF_ERROR(read_root(YAML::Load(std::string(yaml)), scenario));
  } catch (const std::exception& error) {
    return invalid_argument("scenario", error.what());
  }
  return scenario;
}

Result<Scenario> read_scenario(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return invalid_argument("scenario", "cannot read " + path.string());
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  return parse_scenario(text);
}

Status validate(const Scenario& scenario) {
  LATENTD_RETURN_IF_ERROR(in_range("rate", scenario.rate, 1e-6, 1e7));
  LATENTD_RETURN_IF_ERROR(in_range("cv", scenario.cv, 0.01, 100));
  LATENTD_RETURN_IF_ERROR(in_range("concurrency", scenario.concurrency, 1, 1'000'000));
  LATENTD_RETURN_IF_ERROR(in_range("time_scale", scenario.time_scale, 1e-6, 1e6));
  LATENTD_RETURN_IF_ERROR(in_range("length_scale", scenario.length_scale, 1e-6, 1e3));
  LATENTD_RETURN_IF_ERROR(in_range("duration_s", scenario.duration_s, 0, 1e7));
  LATENTD_RETURN_IF_ERROR(in_range("warmup_s", scenario.warmup_s, 0, 1e7));
  LATENTD_RETURN_IF_ERROR(
      in_range("slow_reader_bytes_per_s", scenario.slow_reader_bytes_per_s, 1, 1e9));
  for (std::size_t i = 0; i < scenario.tenants.size(); ++i) {
    LATENTD_RETURN_IF_ERROR(
        validate_tenant("tenants[" + std::to_string(i) + "].", scenario.tenants[i]));
  }
  if (scenario.process == Process::kTrace) {
    if (scenario.trace.empty()) return invalid_argument("trace", "a trace needs a file");
  } else if (scenario.duration_s <= 0.0 && scenario.requests <= 0) {
    return invalid_argument("duration_s", "give duration_s or requests: the run has no end");
  }
  if (scenario.duration_s > 0.0 && scenario.warmup_s >= scenario.duration_s) {
    return invalid_argument("warmup_s", "must be shorter than duration_s");
  }
  return ok_status();
}

}  // namespace latentd::loadtest

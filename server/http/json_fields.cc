#include "server/http/json_fields.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

namespace latentd {

Result<Json> parse_body(std::string_view body) {
  JsonLimits limits;
  limits.max_bytes = body.size();
  LATENTD_ASSIGN_OR_RETURN(Json json, parse_json(body, limits));
  if (json.is_object()) return json;
  return Status(StatusCode::kInvalidArgument, "the body must be a JSON object");
}

std::optional<int> as_int(const Json& value) {
  constexpr auto kLow = std::numeric_limits<int>::min();
  constexpr auto kHigh = std::numeric_limits<int>::max();
  if (value.is_number_unsigned()) {
    const auto number = value.get<std::uint64_t>();
    if (number > static_cast<std::uint64_t>(kHigh)) return std::nullopt;
    return static_cast<int>(number);
  }
  if (value.is_number_integer()) {
    const auto number = value.get<std::int64_t>();
    if (number < kLow || number > kHigh) return std::nullopt;
    return static_cast<int>(number);
  }
  if (value.is_number_float()) {  // 16.0, as some clients write 16
    const double number = value.get<double>();
    if (!(number >= kLow && number <= kHigh) || std::trunc(number) != number) return std::nullopt;
    return static_cast<int>(number);
  }
  return std::nullopt;
}

const Json* JsonFields::find(const char* name) const {
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

void JsonFields::fault(const char* name, std::string message) {
  if (status_.ok()) status_ = invalid_argument(name, std::move(message));
}

void JsonFields::read(const char* name, int& target) {
  const Json* value = find(name);
  if (value == nullptr) return;
  if (const auto number = as_int(*value)) {
    target = *number;
  } else {
    fault(name, value->is_number() ? "must be an integer of 32 bits" : "must be an integer");
  }
}

void JsonFields::read(const char* name, double& target) {
  const Json* value = find(name);
  if (value == nullptr) return;
  if (value->is_number()) {
    target = value->get<double>();
  } else {
    fault(name, "must be a number");
  }
}

void JsonFields::read(const char* name, bool& target) {
  const Json* value = find(name);
  if (value == nullptr) return;
  if (value->is_boolean()) {
    target = value->get<bool>();
  } else {
    fault(name, "must be true or false");
  }
}

void JsonFields::read(const char* name, std::string& target) {
  const Json* value = find(name);
  if (value == nullptr) return;
  if (value->is_string()) {
    target = value->get_ref<const std::string&>();
  } else {
    fault(name, "must be a string");
  }
}

void JsonFields::read(const char* name, std::optional<int>& target) {
  if (find(name) == nullptr) return;
  read(name, target.emplace());
}

void JsonFields::read(const char* name, std::optional<double>& target) {
  if (find(name) == nullptr) return;
  read(name, target.emplace());
}

void JsonFields::read(const char* name, std::vector<TokenId>& target) {
  const Json* value = find(name);
  if (value == nullptr) return;
  if (!value->is_array()) return fault(name, "must be a list of token ids");
  target.reserve(value->size());
  for (const Json& item : *value) {
    const auto token = as_int(item);
    if (!token) return fault(name, "must be a list of token ids");
    target.push_back(*token);
  }
}

void JsonFields::read(const char* name, std::vector<std::string>& target) {
  const Json* value = find(name);
  if (value == nullptr) return;
  if (!value->is_array()) return fault(name, "must be a list of strings");
  for (const Json& item : *value) {
    if (!item.is_string()) return fault(name, "must be a list of strings");
    target.push_back(item.get_ref<const std::string&>());
  }
}

void JsonFields::read_seed(const char* name, std::optional<std::uint64_t>& target) {
  const Json* value = find(name);
  if (value == nullptr) return;
  if (!value->is_number_integer()) return fault(name, "must be an integer");
  target = value->is_number_unsigned() ? value->get<std::uint64_t>()
                                       : static_cast<std::uint64_t>(value->get<std::int64_t>());
}

}  // namespace latentd

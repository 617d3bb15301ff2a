#include "engine/model/field_reader.h"

#include <spdlog/fmt/fmt.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "base/check.h"

namespace latentd {

void FaultList::add(std::string_view field, std::string_view reason) {
  lines_.push_back(fmt::format("{}: {}", field, reason));
}

std::string FaultList::to_string() const { return fmt::format("{}", fmt::join(lines_, "\n")); }

FieldReader::FieldReader(const Json& object, FaultList& faults, std::string prefix)
    : object_(object), faults_(faults), prefix_(std::move(prefix)) {
  LATENTD_CHECK(object.is_object(), "fields are read from objects, not from {}",
                object.type_name());
}

const Json* FieldReader::find(std::string_view name) const {
  const auto field = object_.find(name);
  return field == object_.end() || field->is_null() ? nullptr : &*field;
}

void FieldReader::fault(std::string_view name, std::string_view reason) {
  faults_.add(prefix_ + std::string(name), reason);
}

std::optional<int> FieldReader::to_int(std::string_view name, const Json& value, IntRange range) {
  if (!value.is_number_integer()) {
    fault(name, fmt::format("must be an integer, got {}", value.type_name()));
    return std::nullopt;
  }
  // An unsigned value beyond int64 would wrap; it is beyond every range as well.
  const bool huge = value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX;
  const auto number = huge ? INT64_MAX : value.get<std::int64_t>();
  if (number < range.low || number > range.high) {
    fault(name, fmt::format("must be from {} to {}, got {}", range.low, range.high, value.dump()));
    return std::nullopt;
  }
  return static_cast<int>(number);
}

std::optional<int> FieldReader::read_int(std::string_view name, IntRange range) {
  const Json* value = find(name);
  return value == nullptr ? std::nullopt : to_int(name, *value, range);
}

int FieldReader::read_int(std::string_view name, IntRange range, int fallback) {
  return read_int(name, range).value_or(fallback);
}

int FieldReader::require_int(std::string_view name, IntRange range) {
  const Json* value = find(name);
  if (value == nullptr) {
    fault(name, fmt::format("is missing (an integer from {} to {})", range.low, range.high));
    return static_cast<int>(range.low);
  }
  return to_int(name, *value, range).value_or(static_cast<int>(range.low));
}

std::optional<double> FieldReader::read_real(std::string_view name, RealRange range) {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) {
    fault(name, fmt::format("must be a number, got {}", value->type_name()));
    return std::nullopt;
  }
  const auto number = value->get<double>();
  if (!(number >= range.low && number <= range.high)) {
    fault(name, fmt::format("must be from {} to {}, got {}", range.low, range.high, number));
    return std::nullopt;
  }
  return number;
}

double FieldReader::read_real(std::string_view name, RealRange range, double fallback) {
  return read_real(name, range).value_or(fallback);
}

bool FieldReader::read_bool(std::string_view name, bool fallback) {
  const Json* value = find(name);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) {
    fault(name, fmt::format("must be true or false, got {}", value->type_name()));
    return fallback;
  }
  return value->get<bool>();
}

std::string FieldReader::read_string(std::string_view name, std::string_view fallback) {
  const Json* value = find(name);
  if (value == nullptr) return std::string(fallback);
  if (!value->is_string()) {
    fault(name, fmt::format("must be a string, got {}", value->type_name()));
    return std::string(fallback);
  }
  return value->get<std::string>();
}

std::vector<TokenId> FieldReader::read_token_ids(std::string_view name, IntRange range) {
  std::vector<TokenId> ids;
  const Json* value = find(name);
  if (value == nullptr) return ids;
  const auto append = [&](const Json& element) {
    if (const auto id = to_int(name, element, range)) ids.push_back(*id);
  };
  if (value->is_array()) {
    for (const Json& element : *value) append(element);
  } else {
    append(*value);
  }
  return ids;
}

}  // namespace latentd

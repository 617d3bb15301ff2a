#include <spdlog/fmt/fmt.h>

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "server/text/template/filter_tables.h"
#include "server/text/template/operations.h"
#include "server/text/template/python_text.h"
#include "server/text/template/unicode_text.h"

namespace latentd::jinja {

namespace {

bool is_ascii_digit(char c) { return c >= '0' && c <= '9'; }

// `text` without the underscores that Python allows between digits; nullopt for others.
std::optional<std::string> without_underscores(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out += text[i];
      continue;
    }
    if (i == 0 || i + 1 == text.size() || !std::isalnum(static_cast<unsigned char>(text[i - 1])) ||
        !std::isalnum(static_cast<unsigned char>(text[i + 1]))) {
      return std::nullopt;
    }
  }
  return out;
}

// int(text, base): nullopt where Python raises ValueError.
Result<std::optional<std::int64_t>> parse_int(std::string_view text, int base) {
  std::optional<std::string> digits = without_underscores(strip_space(text, Side::kBoth));
  if (!digits.has_value() || digits->empty()) return std::optional<std::int64_t>();
  const bool negative = (*digits)[0] == '-';
  if (negative || (*digits)[0] == '+') digits->erase(0, 1);
  const auto has_prefix = [&](char letter) {
    return digits->size() > 2 && (*digits)[0] == '0' && ((*digits)[1] | 0x20) == letter;
  };
  if ((base == 16 && has_prefix('x')) || (base == 8 && has_prefix('o')) ||
      (base == 2 && has_prefix('b'))) {
    digits->erase(0, 2);
  }
  std::uint64_t value = 0;
  const char* end = digits->data() + digits->size();
  const auto [parsed, error] = std::from_chars(digits->data(), end, value, base);
  if (parsed != end || error == std::errc::invalid_argument) return std::optional<std::int64_t>();
  const std::uint64_t highest = static_cast<std::uint64_t>(INT64_MAX) + (negative ? 1 : 0);
  if (error != std::errc() || value > highest) {
    return template_error("an integer leaves the range of 64 bits");
  }
  return std::optional<std::int64_t>(static_cast<std::int64_t>(negative ? 0 - value : value));
}

// Digits with a point and an exponent, as Python's float() reads them after the sign.
bool is_float_syntax(std::string_view text) {
  std::size_t i = 0;
  std::size_t digits = 0;
  while (i < text.size() && is_ascii_digit(text[i])) ++i, ++digits;
  if (i < text.size() && text[i] == '.') {
    ++i;
    while (i < text.size() && is_ascii_digit(text[i])) ++i, ++digits;
  }
  if (digits == 0) return false;
  if (i < text.size() && (text[i] | 0x20) == 'e') {
    ++i;
    if (i < text.size() && (text[i] == '+' || text[i] == '-')) ++i;
    const std::size_t exponent = i;
    while (i < text.size() && is_ascii_digit(text[i])) ++i;
    if (i == exponent) return false;
  }
  return i == text.size();
}

// float(text): nullopt where Python raises ValueError.
std::optional<double> parse_double(std::string_view text) {
  std::optional<std::string> digits = without_underscores(strip_space(text, Side::kBoth));
  if (!digits.has_value() || digits->empty()) return std::nullopt;
  const bool negative = (*digits)[0] == '-';
  if (negative || (*digits)[0] == '+') digits->erase(0, 1);
  const std::string lower = to_lower(*digits);
  double value = 0;
  if (lower == "inf" || lower == "infinity") {
    value = INFINITY;
  } else if (lower == "nan") {
    value = NAN;
  } else if (is_float_syntax(*digits)) {
    value = std::strtod(digits->c_str(), nullptr);
  } else {
    return std::nullopt;
  }
  return negative ? -value : value;
}

Result<Value> truncated(double value, const Value& fallback) {
  if (std::isnan(value)) return fallback;
  if (std::abs(value) >= 9.2e18) return template_error("a number is too large for an integer");
  return Value::integer(static_cast<std::int64_t>(value));
}

Status undefined_input(const Value& input) {
  return template_error(std::string(input.why_undefined()));
}

Result<Value> to_int(Runtime& runtime, const Value& input, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const auto bound, bind("int", given, {{"default"}, {"base"}}));
  const Value fallback = bound[0].value_or(Value::integer(0));
  const Value base = bound[1].value_or(Value::integer(10));
  if (input.is_undefined()) return undefined_input(input);
  if (input.is(Kind::kDouble)) return truncated(input.as_double(), fallback);
  if (is_number(input)) return Value::integer(int_of(input));
  if (!input.is_string()) return fallback;
  if (!base.is(Kind::kInt) || base.as_int() < 2 || base.as_int() > 36) {
    return template_error("int needs a base from 2 to 36");
  }
  LATENTD_RETURN_IF_ERROR(runtime.budget.read(input.bytes().size()));
  LATENTD_ASSIGN_OR_RETURN(const std::optional<std::int64_t> whole,
                           parse_int(input.bytes(), static_cast<int>(base.as_int())));
  if (whole.has_value()) return Value::integer(*whole);
  const std::optional<double> number = parse_double(input.bytes());
  if (!number.has_value() || std::isinf(*number)) return fallback;
  return truncated(*number, fallback);
}

Result<Value> to_float(Runtime& runtime, const Value& input, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const auto bound, bind("float", given, {{"default"}}));
  const Value fallback = bound[0].value_or(Value::number(0));
  if (input.is_undefined()) return undefined_input(input);
  if (is_number(input)) return Value::number(double_of(input));
  if (!input.is_string()) return fallback;
  LATENTD_RETURN_IF_ERROR(runtime.budget.read(input.bytes().size()));
  const std::optional<double> number = parse_double(input.bytes());
  return number.has_value() ? Value::number(*number) : fallback;
}

Result<Value> absolute(Runtime&, const Value& input, const Arguments& given) {
  LATENTD_RETURN_IF_ERROR(bind("abs", given, {}).status());
  if (input.is(Kind::kDouble)) return Value::number(std::abs(input.as_double()));
  if (is_number(input)) {
    return int_of(input) < 0 ? unary(UnaryOp::kMinus, input) : Value::integer(int_of(input));
  }
  if (input.is_undefined()) return undefined_input(input);
  return template_error(fmt::format("abs needs a number, not {}", type_name(input)));
}

// round(value, places): half to even on the exact decimal value.
double round_to(double value, std::int64_t places) {
  if (!std::isfinite(value) || places > 300) return value;
  if (places < -308) return std::copysign(0.0, value);
  if (places < 0) {
    const double unit = std::pow(10.0, static_cast<double>(-places));
    return std::nearbyint(value / unit) * unit;
  }
  char digits[700];
  std::snprintf(digits, sizeof digits, "%.*f", static_cast<int>(places), value);
  return std::strtod(digits, nullptr);
}

Result<Value> round(Runtime&, const Value& input, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const auto bound, bind("round", given, {{"precision"}, {"method"}}));
  const Value precision = bound[0].value_or(Value::integer(0));
  const Value method = bound[1].value_or(Value::valid_string("common"));
  if (input.is_undefined()) return undefined_input(input);
  if (!is_number(input) || !precision.is(Kind::kInt) || !method.is_string()) {
    return template_error("round needs a number, and an integer as its precision");
  }
  const std::int64_t places = precision.as_int();
  if (method.bytes() == "common") {
    if (input.is(Kind::kDouble)) return Value::number(round_to(input.as_double(), places));
    if (places >= 0) return Value::integer(int_of(input));
    return template_error("round of an integer needs a precision of at least 0");
  }
  const double scale = std::pow(10.0, static_cast<double>(places));
  const double scaled = double_of(input) * scale;
  // Python's ceil and floor are integers, so their zero has no sign.
  if (method.bytes() == "ceil") return Value::number((std::ceil(scaled) + 0.0) / scale);
  if (method.bytes() == "floor") return Value::number((std::floor(scaled) + 0.0) / scale);
  return template_error("the method of round must be common, ceil or floor");
}

constexpr std::array<NamedFilter, 4> kFilters = {
    {{"abs", absolute}, {"float", to_float}, {"int", to_int}, {"round", round}}};

}  // namespace

std::span<const NamedFilter> number_filters() { return kFilters; }

}  // namespace latentd::jinja

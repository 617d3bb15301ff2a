// Operators on numbers, and + and * on text and lists.
#include <spdlog/fmt/fmt.h>

#include <cmath>

#include "server/text/template/operations.h"
#include "server/text/template/printf_format.h"
#include "server/text/template/python_text.h"

namespace latentd::jinja {

namespace {

constexpr std::string_view kSpelling[] = {"+", "-", "*", "/", "//", "%", "**"};

Status unsupported(BinaryOp op, const Value& a, const Value& b) {
  if (a.is_undefined()) return template_error(std::string(a.why_undefined()));
  if (b.is_undefined()) return template_error(std::string(b.why_undefined()));
  return template_error(fmt::format("unsupported operand types for {}: '{}' and '{}'",
                                    kSpelling[static_cast<std::size_t>(op)], type_name(a),
                                    type_name(b)));
}

Status overflow() { return template_error("an integer leaves the range of 64 bits"); }
Status division_by_zero() { return template_error("division by zero"); }

Result<Value> power(std::int64_t base, std::int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) return division_by_zero();
    return Value::number(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  std::int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) return overflow();
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) return overflow();
  }
  return Value::integer(result);
}

Result<Value> integers(BinaryOp op, std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  switch (op) {
    case BinaryOp::kAdd:
      if (__builtin_add_overflow(a, b, &result)) return overflow();
      return Value::integer(result);
    case BinaryOp::kSub:
      if (__builtin_sub_overflow(a, b, &result)) return overflow();
      return Value::integer(result);
    case BinaryOp::kMul:
      if (__builtin_mul_overflow(a, b, &result)) return overflow();
      return Value::integer(result);
    case BinaryOp::kDiv:
      if (b == 0) return division_by_zero();
      return Value::number(static_cast<double>(a) / static_cast<double>(b));
    case BinaryOp::kFloorDiv:
    case BinaryOp::kMod: {
      if (b == 0) return division_by_zero();
      if (b == -1) {  // the one quotient that can overflow
        if (op == BinaryOp::kMod) return Value::integer(0);
        if (__builtin_sub_overflow(std::int64_t{0}, a, &result)) return overflow();
        return Value::integer(result);
      }
      const bool rounds_down = a % b != 0 && ((a < 0) != (b < 0));
      if (op == BinaryOp::kMod) return Value::integer(a % b + (rounds_down ? b : 0));
      return Value::integer(a / b - (rounds_down ? 1 : 0));
    }
    case BinaryOp::kPow:
      return power(a, b);
  }
  return Value();
}

// The remainder with the sign of the divisor, as Python's float_divmod.
double floor_mod(double a, double b) {
  double rest = std::fmod(a, b);
  if (rest == 0) return std::copysign(0.0, b);
  if ((b < 0) != (rest < 0)) rest += b;
  return rest;
}

double floor_div(double a, double b) {
  double rest = std::fmod(a, b);
  double quotient = (a - rest) / b;
  if (rest != 0 && (b < 0) != (rest < 0)) quotient -= 1.0;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double floored = std::floor(quotient);
  return quotient - floored > 0.5 ? floored + 1.0 : floored;
}

Result<Value> doubles(BinaryOp op, double a, double b) {
  switch (op) {
    case BinaryOp::kAdd:
      return Value::number(a + b);
    case BinaryOp::kSub:
      return Value::number(a - b);
    case BinaryOp::kMul:
      return Value::number(a * b);
    case BinaryOp::kDiv:
      if (b == 0) return division_by_zero();
      return Value::number(a / b);
    case BinaryOp::kFloorDiv:
      if (b == 0) return division_by_zero();
      return Value::number(floor_div(a, b));
    case BinaryOp::kMod:
      if (b == 0) return division_by_zero();
      return Value::number(floor_mod(a, b));
    case BinaryOp::kPow: {
      if (a == 0 && b < 0) return division_by_zero();
      if (a < 0 && b != std::floor(b)) return template_error("complex numbers are not supported");
      const double result = std::pow(a, b);
      if (std::isinf(result) && !std::isinf(a) && !std::isinf(b)) {
        return template_error("a number is too large");
      }
      return Value::number(result);
    }
  }
  return Value();
}

bool is_integral(const Value& value) { return value.is(Kind::kInt) || value.is(Kind::kBool); }

Result<Value> repeat_text(Runtime& runtime, std::string_view text, std::int64_t times) {
  if (times <= 0 || text.empty()) return Value::valid_string("");
  std::size_t bytes = 0;
  if (__builtin_mul_overflow(text.size(), static_cast<std::size_t>(times), &bytes)) {
    bytes = SIZE_MAX;
  }
  LATENTD_RETURN_IF_ERROR(runtime.budget.make_string(bytes));
  std::string out;
  out.reserve(bytes);
  for (std::int64_t i = 0; i < times; ++i) out += text;
  return Value::valid_string(std::move(out));
}

Result<Value> repeat_items(Runtime& runtime, const Sequence& sequence, std::int64_t times) {
  std::size_t count = 0;
  const std::size_t size = sequence.items.size();
  if (times < 0 || size == 0) times = 0;
  if (__builtin_mul_overflow(size, static_cast<std::size_t>(times), &count)) count = SIZE_MAX;
  LATENTD_RETURN_IF_ERROR(runtime.budget.make_items(count));
  std::vector<Value> items;
  items.reserve(count);
  for (std::int64_t i = 0; i < times; ++i) {
    items.insert(items.end(), sequence.items.begin(), sequence.items.end());
  }
  return Value::of(make_sequence(std::move(items), sequence.form));
}

Result<Value> add(Runtime& runtime, const Value& a, const Value& b) {
  if (a.is_string() && b.is_string()) {
    const std::size_t bytes = a.bytes().size() + b.bytes().size();
    LATENTD_RETURN_IF_ERROR(runtime.budget.make_string(bytes));
    std::string out;
    out.reserve(bytes);
    out.append(a.bytes()).append(b.bytes());
    return Value::valid_string(std::move(out));
  }
  if (a.is_list_or_tuple() && b.is_list_or_tuple() && a.sequence()->form == b.sequence()->form) {
    const std::vector<Value>& x = a.sequence()->items;
    const std::vector<Value>& y = b.sequence()->items;
    LATENTD_RETURN_IF_ERROR(runtime.budget.make_items(x.size() + y.size()));
    std::vector<Value> items(x);
    items.insert(items.end(), y.begin(), y.end());
    return Value::of(make_sequence(std::move(items), a.sequence()->form));
  }
  return unsupported(BinaryOp::kAdd, a, b);
}

Result<Value> multiply(Runtime& runtime, const Value& a, const Value& b) {
  const bool a_counts = is_integral(a);
  if (!a_counts && !is_integral(b)) return unsupported(BinaryOp::kMul, a, b);
  const Value& repeated = a_counts ? b : a;
  const std::int64_t times = int_of(a_counts ? a : b);
  if (repeated.is_string()) return repeat_text(runtime, repeated.bytes(), times);
  if (repeated.is_list_or_tuple()) return repeat_items(runtime, *repeated.sequence(), times);
  return unsupported(BinaryOp::kMul, a, b);
}

}  // namespace

Result<Value> binary(Runtime& runtime, BinaryOp op, const Value& a, const Value& b) {
  if (is_integral(a) && is_integral(b)) return integers(op, int_of(a), int_of(b));
  if (is_number(a) && is_number(b)) return doubles(op, double_of(a), double_of(b));
  if (a.is_undefined() || b.is_undefined()) return unsupported(op, a, b);
  if (op == BinaryOp::kAdd) return add(runtime, a, b);
  if (op == BinaryOp::kMul) return multiply(runtime, a, b);
  if (op == BinaryOp::kMod && a.is_string()) return printf_format(runtime, a.bytes(), b);
  return unsupported(op, a, b);
}

Result<Value> unary(UnaryOp op, const Value& operand) {
  if (op == UnaryOp::kNot) return Value::boolean(!truthy(operand));
  const bool minus = op == UnaryOp::kMinus;
  if (operand.is(Kind::kDouble)) {
    return Value::number(minus ? -operand.as_double() : operand.as_double());
  }
  if (is_integral(operand)) {
    std::int64_t result = int_of(operand);
    if (minus && __builtin_sub_overflow(std::int64_t{0}, result, &result)) return overflow();
    return Value::integer(result);
  }
  if (operand.is_undefined()) return template_error(std::string(operand.why_undefined()));
  return template_error(
      fmt::format("bad operand type for unary {}: '{}'", minus ? '-' : '+', type_name(operand)));
}

}  // namespace latentd::jinja

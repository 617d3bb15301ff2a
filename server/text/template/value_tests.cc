// Tests: what stands after `is`.
#include <spdlog/fmt/fmt.h>

#include <array>
#include <cmath>

#include "server/text/template/builtins.h"
#include "server/text/template/operations.h"
#include "server/text/template/python_text.h"
#include "server/text/template/unicode_text.h"

namespace latentd::jinja {

namespace {

template <bool (*kTest)(const Value&)>
Result<bool> simple(Runtime&, const Value& input, const Arguments& given) {
  if (!given.empty()) return template_error("this test takes no arguments");
  return kTest(input);
}

bool is_defined(const Value& value) { return !value.is_undefined(); }
bool is_undefined(const Value& value) { return value.is_undefined(); }
bool is_none(const Value& value) { return value.is(Kind::kNone); }
bool is_boolean(const Value& value) { return value.is(Kind::kBool); }
bool is_true(const Value& value) { return value.is(Kind::kBool) && value.as_bool(); }
bool is_false(const Value& value) { return value.is(Kind::kBool) && !value.as_bool(); }
bool is_integer(const Value& value) { return value.is(Kind::kInt); }
bool is_float(const Value& value) { return value.is(Kind::kDouble); }
bool is_string(const Value& value) { return value.is_string(); }
bool is_mapping(const Value& value) { return value.is(Kind::kMap); }
bool is_never(const Value&) { return false; }

// Python asks for a length and for items by place, which jinja2's undefined has too.
bool is_sequence(const Value& value) {
  if (value.is(Kind::kSequence)) return !value.sequence()->is_view();
  return value.is_string() || value.is(Kind::kMap) || value.is_undefined();
}

bool is_iterable(const Value& value) {
  return value.is_string() || value.is(Kind::kMap) || value.is(Kind::kSequence) ||
         value.is(Kind::kIterator) || value.is(Kind::kLoop) || value.is_undefined();
}

bool is_callable(const Value& value) {
  return value.is(Kind::kMethod) || value.is(Kind::kMacro) || value.is(Kind::kFunction) ||
         value.is_undefined();
}

template <auto kFind>
Result<bool> names(Runtime&, const Value& input, const Arguments& given) {
  if (!given.empty()) return template_error("this test takes no arguments");
  if (!hashable(input)) {
    return template_error(fmt::format("a {} is no name", type_name(input)));
  }
  return input.is_string() && kFind(input.bytes()) != nullptr;
}

template <bool (*kTest)(std::string_view)>
Result<bool> text_is(Runtime& runtime, const Value& input, const Arguments& given) {
  if (!given.empty()) return template_error("this test takes no arguments");
  LATENTD_ASSIGN_OR_RETURN(const std::string text, to_text(runtime, input));
  LATENTD_RETURN_IF_ERROR(runtime.budget.spend(text.size() / 16));
  return kTest(text);
}

Result<Value> only_argument(std::string_view test, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const auto bound, bind(test, given, {{"other", true}}));
  return *bound[0];
}

Result<bool> divides(Runtime& runtime, const Value& input, const Value& divisor) {
  LATENTD_ASSIGN_OR_RETURN(const Value rest, binary(runtime, BinaryOp::kMod, input, divisor));
  return is_number(rest) && double_of(rest) == 0;
}

Result<bool> divisible_by(Runtime& runtime, const Value& input, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const Value divisor, only_argument("divisibleby", given));
  return divides(runtime, input, divisor);
}

Result<bool> is_even(Runtime& runtime, const Value& input, const Arguments& given) {
  if (!given.empty()) return template_error("this test takes no arguments");
  return divides(runtime, input, Value::integer(2));
}

Result<bool> is_odd(Runtime& runtime, const Value& input, const Arguments& given) {
  if (!given.empty()) return template_error("this test takes no arguments");
  LATENTD_ASSIGN_OR_RETURN(const Value rest,
                           binary(runtime, BinaryOp::kMod, input, Value::integer(2)));
  return is_number(rest) && double_of(rest) == 1;
}

Result<bool> same_as(Runtime& runtime, const Value& input, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const Value other, only_argument("sameas", given));
  if (input.kind() != other.kind()) return false;
  if (input.is_string()) return equal(runtime, input, other);
  return input.same_as(other);
}

Result<bool> is_in(Runtime& runtime, const Value& input, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const Value container, only_argument("in", given));
  return contains(runtime, container, input);
}

template <CompareOp kOp>
Result<bool> compares(Runtime& runtime, const Value& input, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const Value other, only_argument("the test", given));
  return compare(runtime, kOp, input, other);
}

struct NamedTest {
  std::string_view name;
  TestFunction function;
};

constexpr std::array<NamedTest, 39> kTests = {{{"!=", compares<CompareOp::kNe>},
                                               {"<", compares<CompareOp::kLt>},
                                               {"<=", compares<CompareOp::kLe>},
                                               {"==", compares<CompareOp::kEq>},
                                               {">", compares<CompareOp::kGt>},
                                               {">=", compares<CompareOp::kGe>},
                                               {"boolean", simple<is_boolean>},
                                               {"callable", simple<is_callable>},
                                               {"defined", simple<is_defined>},
                                               {"divisibleby", divisible_by},
                                               {"eq", compares<CompareOp::kEq>},
                                               {"equalto", compares<CompareOp::kEq>},
                                               {"escaped", simple<is_never>},
                                               {"even", is_even},
                                               {"false", simple<is_false>},
                                               {"filter", names<find_filter>},
                                               {"float", simple<is_float>},
                                               {"ge", compares<CompareOp::kGe>},
                                               {"greaterthan", compares<CompareOp::kGt>},
                                               {"gt", compares<CompareOp::kGt>},
                                               {"in", is_in},
                                               {"integer", simple<is_integer>},
                                               {"iterable", simple<is_iterable>},
                                               {"le", compares<CompareOp::kLe>},
                                               {"lessthan", compares<CompareOp::kLt>},
                                               {"lower", text_is<is_lower>},
                                               {"lt", compares<CompareOp::kLt>},
                                               {"mapping", simple<is_mapping>},
                                               {"ne", compares<CompareOp::kNe>},
                                               {"none", simple<is_none>},
                                               {"number", simple<is_number>},
                                               {"odd", is_odd},
                                               {"sameas", same_as},
                                               {"sequence", simple<is_sequence>},
                                               {"string", simple<is_string>},
                                               {"test", names<find_test>},
                                               {"true", simple<is_true>},
                                               {"undefined", simple<is_undefined>},
                                               {"upper", text_is<is_upper>}}};

}  // namespace

TestFunction find_test(std::string_view name) {
  for (const NamedTest& test : kTests) {
    if (test.name == name) return test.function;
  }
  return nullptr;
}

}  // namespace latentd::jinja

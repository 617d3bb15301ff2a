// Methods of dict, list, tuple and range; find_method.
#include <spdlog/fmt/fmt.h>

#include <array>
#include <span>

#include "server/text/template/builtins.h"
#include "server/text/template/operations.h"
#include "server/text/template/python_text.h"
#include "server/text/template/string_methods.h"

namespace latentd::jinja {

namespace {

Status no_arguments(std::string_view method, const Arguments& given) {
  if (given.empty()) return ok_status();
  return template_error(fmt::format("{}() takes no arguments", method));
}

Result<Value> map_get(Runtime& runtime, const Value& map, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const auto bound, bind("get", given, {{"key", true}, {"default"}}));
  const Value& key = *bound[0];
  if (!hashable(key)) {
    return template_error(fmt::format("a {} cannot be a key", type_name(key)));
  }
  LATENTD_RETURN_IF_ERROR(runtime.budget.spend(key.is_string() ? 1 : map.map().size()));
  if (const Value* found = map.map().find(key); found != nullptr) return *found;
  return bound[1].value_or(Value::none());
}

Result<Value> map_keys(Runtime& runtime, const Value& map, const Arguments& given) {
  LATENTD_RETURN_IF_ERROR(no_arguments("keys", given));
  std::vector<Value> items;
  for (const auto& [key, value] : map.map().entries()) items.push_back(key);
  return runtime.list(std::move(items), Sequence::Form::kKeys);
}

Result<Value> map_values(Runtime& runtime, const Value& map, const Arguments& given) {
  LATENTD_RETURN_IF_ERROR(no_arguments("values", given));
  std::vector<Value> items;
  for (const auto& [key, value] : map.map().entries()) items.push_back(value);
  return runtime.list(std::move(items), Sequence::Form::kValues);
}

Result<Value> map_items(Runtime& runtime, const Value& map, const Arguments& given) {
  LATENTD_RETURN_IF_ERROR(no_arguments("items", given));
  LATENTD_RETURN_IF_ERROR(runtime.budget.make_items(2 * map.map().size()));
  std::vector<Value> items;
  for (const auto& [key, value] : map.map().entries()) items.push_back(Value::tuple({key, value}));
  return runtime.list(std::move(items), Sequence::Form::kItems);
}

Result<Value> copy(Runtime&, const Value& object, const Arguments& given) {
  LATENTD_RETURN_IF_ERROR(no_arguments("copy", given));
  return object;
}

Result<Value> count_items(Runtime& runtime, const Value& sequence, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const auto bound, bind("count", given, {{"value", true}}));
  std::int64_t found = 0;
  for (const Value& item : sequence.sequence()->items) {
    LATENTD_ASSIGN_OR_RETURN(const bool same, equal(runtime, item, *bound[0]));
    if (same) ++found;
  }
  return Value::integer(found);
}

Result<Value> index_of(Runtime& runtime, const Value& sequence, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const auto bound, bind("index", given, {{"value", true}}));
  const std::vector<Value>& items = sequence.sequence()->items;
  for (std::size_t i = 0; i < items.size(); ++i) {
    LATENTD_ASSIGN_OR_RETURN(const bool same, equal(runtime, items[i], *bound[0]));
    if (same) return Value::integer(static_cast<std::int64_t>(i));
  }
  return template_error("the value is not in the list");
}

constexpr std::array<Method, 5> kMapMethods = {{{"copy", copy},
                                                {"get", map_get},
                                                {"items", map_items},
                                                {"keys", map_keys},
                                                {"values", map_values}}};
constexpr std::array<Method, 3> kListMethods = {
    {{"copy", copy}, {"count", count_items}, {"index", index_of}}};

std::span<const Method> methods_of(const Value& receiver) {
  if (receiver.is_string()) return string_methods();
  if (receiver.is(Kind::kMap)) return kMapMethods;
  if (!receiver.is(Kind::kSequence) || receiver.sequence()->is_view()) return {};
  const std::span<const Method> of_list = kListMethods;
  return receiver.sequence()->form == Sequence::Form::kList ? of_list : of_list.subspan(1);
}

}  // namespace

const Method* find_method(const Value& receiver, std::string_view name) {
  for (const Method& method : methods_of(receiver)) {
    if (method.name == name) return &method;
  }
  return nullptr;
}

}  // namespace latentd::jinja

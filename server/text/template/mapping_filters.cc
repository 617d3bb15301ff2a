// Filters that apply others to every item, attribute paths, and find_filter.
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "server/text/template/filter_tables.h"
#include "server/text/template/operations.h"
#include "server/text/template/python_text.h"

namespace latentd::jinja {

Result<AttributePath> AttributePath::parse(const Value& attribute) {
  AttributePath path;
  if (attribute.is(Kind::kNone)) return path;
  if (!attribute.is_string()) {
    path.parts_.push_back(attribute);
    return path;
  }
  std::string_view left = attribute.bytes();
  while (true) {
    const std::size_t dot = left.find('.');
    const std::string_view part = left.substr(0, dot);
    std::int64_t index = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), index);
    const bool is_index =
        error == std::errc() && end == part.data() + part.size() && part[0] != '-';
    path.parts_.push_back(is_index ? Value::integer(index) : Value::string(part));
    if (dot == std::string_view::npos) return path;
    left.remove_prefix(dot + 1);
  }
}

Result<Value> AttributePath::get(Runtime& runtime, Value item,
                                 const std::optional<Value>& substitute) const {
  for (const Value& part : parts_) {
    LATENTD_ASSIGN_OR_RETURN(item, get_item(runtime, item, part));
    if (substitute.has_value() && item.is_undefined()) item = *substitute;
  }
  return item;
}

namespace {

Result<Value> get_attributes(Runtime& runtime, const Value& input, const Arguments& given) {
  std::optional<Value> substitute;
  Value attribute;
  for (const auto& [name, value] : given.keywords) {
    if (name == "attribute") {
      attribute = value;
    } else if (name == "default") {
      if (!value.is(Kind::kNone)) substitute = value;
    } else {
      return template_error(fmt::format("map has no argument '{}'", name));
    }
  }
  LATENTD_ASSIGN_OR_RETURN(const AttributePath path, AttributePath::parse(attribute));
  LATENTD_ASSIGN_OR_RETURN(const ItemsPtr items, iterate(runtime, input));
  std::vector<Value> found;
  for (const Value& item : *items) {
    LATENTD_ASSIGN_OR_RETURN(Value value, path.get(runtime, item, substitute));
    found.push_back(std::move(value));
  }
  return runtime.iterator(std::move(found));
}

// What is left of the arguments after `count` by place.
Arguments rest_of(const Arguments& given, std::size_t count) {
  Arguments rest;
  rest.positional.assign(given.positional.begin() + static_cast<std::ptrdiff_t>(count),
                         given.positional.end());
  rest.keywords = given.keywords;
  return rest;
}

Result<Value> map(Runtime& runtime, const Value& input, const Arguments& given) {
  const DepthGuard guard(runtime);  // a filter that map applies can be map
  LATENTD_RETURN_IF_ERROR(guard.status());
  if (!truthy(input)) return runtime.iterator({});
  const bool by_attribute =
      given.positional.empty() &&
      std::any_of(given.keywords.begin(), given.keywords.end(),
                  [](const auto& keyword) { return keyword.first == "attribute"; });
  if (by_attribute) return get_attributes(runtime, input, given);
  if (given.positional.empty() || !given.positional[0].is_string()) {
    return template_error("map needs the name of a filter");
  }
  const FilterFunction filter = find_filter(given.positional[0].bytes());
  if (filter == nullptr) {
    return template_error(fmt::format("there is no filter '{}'", given.positional[0].bytes()));
  }
  const Arguments arguments = rest_of(given, 1);
  LATENTD_ASSIGN_OR_RETURN(const ItemsPtr items, iterate(runtime, input));
  std::vector<Value> results;
  for (const Value& item : *items) {
    LATENTD_RETURN_IF_ERROR(runtime.budget.spend(1));
    LATENTD_ASSIGN_OR_RETURN(Value result, filter(runtime, item, arguments));
    results.push_back(std::move(result));
  }
  return runtime.iterator(std::move(results));
}

enum class Keep : std::uint8_t { kPassing, kFailing };
enum class Subject : std::uint8_t { kItem, kAttribute };

template <Keep kKeep, Subject kSubject>
Result<Value> choose(Runtime& runtime, const Value& input, const Arguments& given) {
  if (!truthy(input)) return runtime.iterator({});
  constexpr std::size_t kBefore = kSubject == Subject::kAttribute ? 1 : 0;
  if (given.positional.size() < kBefore) {
    return template_error("selectattr needs the name of an attribute");
  }
  AttributePath path;
  if (kSubject == Subject::kAttribute) {
    LATENTD_ASSIGN_OR_RETURN(path, AttributePath::parse(given.positional[0]));
  }
  TestFunction test = nullptr;
  Arguments arguments;
  if (given.positional.size() > kBefore) {
    const Value& name = given.positional[kBefore];
    test = name.is_string() ? find_test(name.bytes()) : nullptr;
    if (test == nullptr) {
      LATENTD_ASSIGN_OR_RETURN(const std::string text, to_text(runtime, name));
      return template_error(fmt::format("there is no test '{}'", text));
    }
    arguments = rest_of(given, kBefore + 1);
  }
  LATENTD_ASSIGN_OR_RETURN(const ItemsPtr items, iterate(runtime, input));
  std::vector<Value> kept;
  for (const Value& item : *items) {
    LATENTD_RETURN_IF_ERROR(runtime.budget.spend(1));
    LATENTD_ASSIGN_OR_RETURN(const Value subject, path.get(runtime, item));
    bool passes = truthy(subject);
    if (test != nullptr) {
      LATENTD_ASSIGN_OR_RETURN(passes, test(runtime, subject, arguments));
    }
    if (passes == (kKeep == Keep::kPassing)) kept.push_back(item);
  }
  return runtime.iterator(std::move(kept));
}

// object.name, never a key.
Result<Value> attr(Runtime& runtime, const Value& input, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const auto bound, bind("attr", given, {{"name", true}}));
  if (!bound[0]->is_string()) return template_error("attr needs a name");
  if (input.is(Kind::kMap) && input.map().find(bound[0]->bytes()) != nullptr &&
      find_method(input, bound[0]->bytes()) == nullptr) {
    return Value::undefined(fmt::format("'dict object' has no attribute '{}'", bound[0]->bytes()));
  }
  return get_attribute(runtime, input, bound[0]->bytes());
}

constexpr std::array<NamedFilter, 6> kFilters = {
    {{"attr", attr},
     {"map", map},
     {"reject", choose<Keep::kFailing, Subject::kItem>},
     {"rejectattr", choose<Keep::kFailing, Subject::kAttribute>},
     {"select", choose<Keep::kPassing, Subject::kItem>},
     {"selectattr", choose<Keep::kPassing, Subject::kAttribute>}}};

}  // namespace

std::span<const NamedFilter> mapping_filters() { return kFilters; }

FilterFunction find_filter(std::string_view name) {
  for (const auto table :
       {text_filters(), sequence_filters(), mapping_filters(), number_filters()}) {
    for (const NamedFilter& filter : table) {
      if (filter.name == name) return filter.function;
    }
  }
  return nullptr;
}

}  // namespace latentd::jinja

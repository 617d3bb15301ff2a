// Global functions: range, dict, namespace, raise_exception, strftime_now.
#include <spdlog/fmt/fmt.h>

#include <array>

#include "server/text/template/builtins.h"
#include "server/text/template/operations.h"
#include "server/text/template/python_text.h"
#include "server/text/template/strftime.h"

namespace latentd::jinja {

namespace {

// As jinja2.sandbox.MAX_RANGE.
constexpr std::int64_t kMaxRange = 100'000;

Result<std::int64_t> range_argument(const Value& value) {
  if (value.is(Kind::kInt) || value.is(Kind::kBool)) return int_of(value);
  return template_error(fmt::format("range() needs integers, not {}", type_name(value)));
}

Result<Value> range(Runtime& runtime, const Arguments& given) {
  const std::size_t count = given.positional.size();
  if (count < 1 || count > 3 || !given.keywords.empty()) {
    return template_error("range() takes one to three arguments by place");
  }
  auto sequence = std::make_shared<Sequence>();
  sequence->form = Sequence::Form::kRange;
  LATENTD_ASSIGN_OR_RETURN(const std::int64_t first, range_argument(given.positional[0]));
  sequence->stop = first;
  if (count > 1) {
    sequence->start = first;
    LATENTD_ASSIGN_OR_RETURN(sequence->stop, range_argument(given.positional[1]));
  }
  if (count > 2) {
    LATENTD_ASSIGN_OR_RETURN(sequence->step, range_argument(given.positional[2]));
  }
  if (sequence->step == 0) return template_error("the step of range() cannot be zero");
  const __int128 step = sequence->step;
  const __int128 span = static_cast<__int128>(sequence->stop) - sequence->start;
  __int128 length = step > 0 ? (span + step - 1) / step : (span + step + 1) / step;
  if ((step > 0) != (span > 0)) length = 0;
  if (length > kMaxRange) {
    return Status(StatusCode::kResourceExhausted,
                  fmt::format("range() makes at most {} numbers", kMaxRange));
  }
  LATENTD_RETURN_IF_ERROR(runtime.budget.make_items(static_cast<std::size_t>(length)));
  sequence->items.reserve(static_cast<std::size_t>(length));
  for (std::int64_t i = 0, at = sequence->start; i < length; ++i) {
    sequence->items.push_back(Value::integer(at));
    if (i + 1 < length) at += sequence->step;
  }
  return Value::of(SequencePtr(std::move(sequence)));
}

// Adds what dict(...) and namespace(...) take: a map or pairs, then keywords.
Status collect(Runtime& runtime, std::string_view function, const Arguments& given,
               MapBuilder& out) {
  if (given.positional.size() > 1) {
    return template_error(fmt::format("{}() takes at most one argument by place", function));
  }
  for (const Value& source : given.positional) {
    if (source.is(Kind::kMap)) {
      for (const auto& [key, value] : source.map().entries()) out.set(key, value);
      LATENTD_RETURN_IF_ERROR(runtime.budget.make_items(source.map().size()));
      continue;
    }
    if (source.is_undefined()) return template_error(std::string(source.why_undefined()));
    LATENTD_ASSIGN_OR_RETURN(const ItemsPtr pairs, iterate(runtime, source));
    for (const Value& pair : *pairs) {
      LATENTD_ASSIGN_OR_RETURN(const ItemsPtr parts, iterate(runtime, pair));
      if (parts->size() != 2) {
        return template_error(fmt::format("{}() needs a dict or pairs", function));
      }
      const Value& key = (*parts)[0];
      if (key.is(Kind::kSequence) || key.is(Kind::kMap)) {
        return template_error(fmt::format("a {} cannot be a key", type_name(key)));
      }
      LATENTD_RETURN_IF_ERROR(runtime.budget.spend(key.is_string() ? 1 : out.size()));
      out.set(key, (*parts)[1]);
    }
  }
  for (const auto& [name, value] : given.keywords) out.set(name, value);
  return ok_status();
}

Result<Value> dict(Runtime& runtime, const Arguments& given) {
  MapBuilder out;
  LATENTD_RETURN_IF_ERROR(collect(runtime, "dict", given, out));
  return runtime.map(std::move(out));
}

Result<Value> name_space(Runtime& runtime, const Arguments& given) {
  MapBuilder out;
  LATENTD_RETURN_IF_ERROR(collect(runtime, "namespace", given, out));
  const Value map = std::move(out).build();
  LATENTD_RETURN_IF_ERROR(runtime.budget.make_items(map.map().size()));
  LATENTD_ASSIGN_OR_RETURN(Namespace * object, runtime.new_namespace());
  for (const auto& [key, value] : map.map().entries()) {
    if (!key.is_string()) return template_error("namespace() needs names as keys");
    object->attributes.emplace_back(std::string(key.bytes()), value);
  }
  return Value::of(object);
}

Result<Value> raise_exception(Runtime& runtime, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const auto bound, bind("raise_exception", given, {{"message", true}}));
  LATENTD_ASSIGN_OR_RETURN(std::string message, to_text(runtime, *bound[0]));
  runtime.raised = true;
  return template_error(std::move(message));
}

Result<Value> strftime_now(Runtime& runtime, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const auto bound, bind("strftime_now", given, {{"format", true}}));
  if (!bound[0]->is_string()) return template_error("strftime_now() needs a string");
  if (!runtime.now().has_value()) return template_error("strftime_now() has no time to show");
  LATENTD_RETURN_IF_ERROR(runtime.budget.make_string(bound[0]->bytes().size()));
  LATENTD_ASSIGN_OR_RETURN(std::string text, format_time(bound[0]->bytes(), *runtime.now()));
  return runtime.string(std::move(text));
}

constexpr std::array<Function, 5> kFunctions = {{{"range", range},
                                                 {"dict", dict},
                                                 {"namespace", name_space},
                                                 {"raise_exception", raise_exception},
                                                 {"strftime_now", strftime_now}}};

}  // namespace

const Function* find_function(std::string_view name) {
  for (const Function& function : kFunctions) {
    if (function.name == name) return &function;
  }
  return nullptr;
}

}  // namespace latentd::jinja

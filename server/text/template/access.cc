// Attributes, items and slices.
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>

#include "server/text/template/builtins.h"
#include "server/text/template/operations.h"
#include "server/text/template/python_text.h"
#include "server/text/template/unicode_text.h"

namespace latentd::jinja {

namespace {

// Methods of dict and list that the sandbox refuses since they would change their object. Those of
// dict hide keys of the same name from `object.name`.
constexpr std::array<std::string_view, 5> kMapChangers = {"clear", "pop", "popitem", "setdefault",
                                                          "update"};
constexpr std::array<std::string_view, 8> kListChangers = {"append", "clear",  "extend",  "insert",
                                                           "pop",    "remove", "reverse", "sort"};

bool would_change(const Value& object, std::string_view method) {
  const auto has = [method](const auto& names) {
    return std::find(names.begin(), names.end(), method) != names.end();
  };
  if (object.is(Kind::kMap)) return has(kMapChangers);
  return object.is(Kind::kSequence) && object.sequence()->form == Sequence::Form::kList &&
         has(kListChangers);
}

Value missing(const Value& object, std::string_view name) {
  return Value::undefined(
      fmt::format("'{} object' has no attribute '{}'", type_name(object), name));
}

Value unsafe(const Value& object, std::string_view name) {
  return Value::undefined(
      fmt::format("access to attribute '{}' of '{}' object is unsafe", name, type_name(object)));
}

Result<Value> loop_attribute(const LoopState& loop, const Value& object, std::string_view name) {
  const auto number = [](std::size_t n) { return Value::integer(static_cast<std::int64_t>(n)); };
  const std::size_t count = loop.items->size();
  if (name == "index") return number(loop.index + 1);
  if (name == "index0") return number(loop.index);
  if (name == "first") return Value::boolean(loop.index == 0);
  if (name == "last") return Value::boolean(loop.index + 1 == count);
  if (name == "length") return number(count);
  if (name == "revindex") return number(count - loop.index);
  if (name == "revindex0") return number(count - loop.index - 1);
  if (name == "depth") return Value::integer(1);  // counts recursive loops, which are refused
  if (name == "depth0") return Value::integer(0);
  if (name == "previtem") {
    return loop.index > 0 ? (*loop.items)[loop.index - 1]
                          : Value::undefined("there is no previous item");
  }
  if (name == "nextitem") {
    return loop.index + 1 < count ? (*loop.items)[loop.index + 1]
                                  : Value::undefined("there is no next item");
  }
  return missing(object, name);
}

// The item at `index`, from the end when negative; null when outside.
const Value* at(const std::vector<Value>& items, std::int64_t index) {
  const auto size = static_cast<std::int64_t>(items.size());
  if (index < 0) index += size;
  return index < 0 || index >= size ? nullptr : &items[static_cast<std::size_t>(index)];
}

Result<Value> character_at(Runtime& runtime, const Value& object, std::int64_t index) {
  const auto length = static_cast<std::int64_t>(object.text().length);
  if (index < 0) index += length;
  if (index < 0 || index >= length) return Value::undefined("a string index is out of range");
  const std::string_view text = object.bytes();
  auto from = static_cast<std::size_t>(index);
  if (!object.text().ascii()) {
    LATENTD_RETURN_IF_ERROR(runtime.budget.read(text.size()));
    from = byte_offset(text, from);
  }
  const std::size_t size = byte_offset(text.substr(from), 1);
  return runtime.string(std::string(text.substr(from, size)));
}

// The part of get_item that Python's own __getitem__ does; nullopt: try an attribute.
Result<std::optional<Value>> own_item(Runtime& runtime, const Value& object, const Value& key) {
  const bool is_index = key.is(Kind::kInt) || key.is(Kind::kBool);
  if (object.is(Kind::kMap)) {
    LATENTD_RETURN_IF_ERROR(runtime.budget.spend(key.is_string() ? 1 : object.map().size()));
    const Value* found = object.map().find(key);
    return found == nullptr ? std::optional<Value>() : std::optional<Value>(*found);
  }
  if (!is_index) return std::optional<Value>();
  if (object.is_string()) {
    LATENTD_ASSIGN_OR_RETURN(Value character, character_at(runtime, object, int_of(key)));
    return std::optional<Value>(std::move(character));
  }
  if (object.is(Kind::kSequence) && !object.sequence()->is_view()) {
    const Value* found = at(object.sequence()->items, int_of(key));
    return found == nullptr ? std::optional<Value>() : std::optional<Value>(*found);
  }
  return std::optional<Value>();
}

// A method, or what objects have that are not keys.
Result<std::optional<Value>> own_attribute(Runtime& runtime, const Value& object,
                                           std::string_view name) {
  if (object.is(Kind::kNamespace)) {
    const Value* found = object.object().find(name);
    return found == nullptr ? std::optional<Value>() : std::optional<Value>(*found);
  }
  if (object.is(Kind::kLoop)) {
    LATENTD_ASSIGN_OR_RETURN(Value found, loop_attribute(*object.loop(), object, name));
    return std::optional<Value>(std::move(found));
  }
  if (const Method* method = find_method(object, name); method != nullptr) {
    LATENTD_ASSIGN_OR_RETURN(Value bound, runtime.bound_method(object, method));
    return std::optional<Value>(std::move(bound));
  }
  if (would_change(object, name) || name.starts_with("__")) {
    return std::optional<Value>(unsafe(object, name));
  }
  return std::optional<Value>();
}

struct SliceBounds {
  std::int64_t start, stop, step;
  std::int64_t count;
};

// Python's slice.indices, with the number of places that it selects.
SliceBounds slice_bounds(const Value& start, const Value& stop, std::int64_t step,
                         std::int64_t size) {
  const auto place = [&](const Value& value, std::int64_t absent) {
    if (value.is(Kind::kNone)) return absent;
    std::int64_t index = int_of(value);
    if (index < 0) index += size;
    const std::int64_t lowest = step < 0 ? -1 : 0;
    const std::int64_t highest = step < 0 ? size - 1 : size;
    return std::clamp(index, lowest, std::max(lowest, highest));
  };
  const std::int64_t from = place(start, step < 0 ? size - 1 : 0);
  const std::int64_t to = place(stop, step < 0 ? -1 : size);
  std::int64_t count = 0;
  if (step > 0 && to > from) count = (to - from - 1) / step + 1;
  if (step < 0 && to < from) count = (from - to - 1) / -step + 1;
  return {from, to, step, count};
}

Result<Value> slice_text(Runtime& runtime, const Value& object, const SliceBounds& bounds) {
  const std::string_view text = object.bytes();
  const auto count = static_cast<std::size_t>(bounds.count);
  if (bounds.step == 1) {
    LATENTD_RETURN_IF_ERROR(runtime.budget.read(object.text().ascii() ? 0 : text.size()));
    auto from = static_cast<std::size_t>(bounds.start);
    std::size_t bytes = count;
    if (!object.text().ascii()) {
      from = byte_offset(text, from);
      bytes = byte_offset(text.substr(from), count);
    }
    return runtime.string(std::string(text.substr(from, bytes)));
  }
  LATENTD_RETURN_IF_ERROR(runtime.budget.spend(object.text().length));
  const std::vector<char32_t> points = code_points(text);
  std::vector<char32_t> chosen;
  chosen.reserve(count);
  for (std::int64_t i = 0, at = bounds.start; i < bounds.count; ++i, at += bounds.step) {
    chosen.push_back(points[static_cast<std::size_t>(at)]);
  }
  return runtime.string(from_code_points(chosen));
}

Result<Value> slice_items(Runtime& runtime, const Sequence& sequence, const SliceBounds& bounds) {
  LATENTD_RETURN_IF_ERROR(runtime.budget.make_items(static_cast<std::size_t>(bounds.count)));
  std::vector<Value> items;
  items.reserve(static_cast<std::size_t>(bounds.count));
  for (std::int64_t i = 0, at = bounds.start; i < bounds.count; ++i, at += bounds.step) {
    items.push_back(sequence.items[static_cast<std::size_t>(at)]);
  }
  if (sequence.form != Sequence::Form::kRange) {
    return Value::of(make_sequence(std::move(items), sequence.form));
  }
  auto range = std::make_shared<Sequence>();
  range->form = Sequence::Form::kRange;
  range->items = std::move(items);
  range->start = sequence.start + bounds.start * sequence.step;
  range->step = sequence.step * bounds.step;
  range->stop = sequence.start + bounds.stop * sequence.step;
  return Value::of(SequencePtr(std::move(range)));
}

bool is_slice_part(const Value& value) {
  return value.is(Kind::kNone) || value.is(Kind::kInt) || value.is(Kind::kBool);
}

}  // namespace

Result<Value> get_attribute(Runtime& runtime, const Value& object, std::string_view name) {
  LATENTD_RETURN_IF_ERROR(runtime.budget.spend(1));
  if (object.is_undefined()) return template_error(std::string(object.why_undefined()));
  LATENTD_ASSIGN_OR_RETURN(std::optional<Value> own, own_attribute(runtime, object, name));
  if (own.has_value()) return *std::move(own);
  if (object.is(Kind::kMap)) {
    if (const Value* found = object.map().find(name); found != nullptr) return *found;
  }
  return missing(object, name);
}

Result<Value> get_item(Runtime& runtime, const Value& object, const Value& key) {
  LATENTD_RETURN_IF_ERROR(runtime.budget.spend(1));
  if (object.is_undefined()) return template_error(std::string(object.why_undefined()));
  LATENTD_ASSIGN_OR_RETURN(std::optional<Value> item, own_item(runtime, object, key));
  if (item.has_value()) return *std::move(item);
  if (!key.is_string()) {
    return Value::undefined(fmt::format("'{} object' has no such element", type_name(object)));
  }
  LATENTD_ASSIGN_OR_RETURN(std::optional<Value> own, own_attribute(runtime, object, key.bytes()));
  return own.has_value() ? *std::move(own) : missing(object, key.bytes());
}

Result<Value> get_slice(Runtime& runtime, const Value& object, const Value& start,
                        const Value& stop, const Value& step) {
  if (object.is_undefined()) return template_error(std::string(object.why_undefined()));
  const bool sliceable =
      object.is_string() || (object.is(Kind::kSequence) && !object.sequence()->is_view());
  if (!sliceable) {
    return template_error(fmt::format("'{}' object cannot be sliced", type_name(object)));
  }
  if (!is_slice_part(start) || !is_slice_part(stop) || !is_slice_part(step)) {
    return template_error("the parts of a slice must be integers or none");
  }
  std::int64_t by = step.is(Kind::kNone) ? 1 : int_of(step);
  if (by == 0) return template_error("a slice step cannot be zero");
  LATENTD_ASSIGN_OR_RETURN(const std::int64_t size, length_of(object));
  by = std::clamp(by, -size - 1, size + 1);  // a longer step selects the same, and cannot overflow
  const SliceBounds bounds = slice_bounds(start, stop, by, size);
  if (object.is_string()) return slice_text(runtime, object, bounds);
  return slice_items(runtime, *object.sequence(), bounds);
}

}  // namespace latentd::jinja

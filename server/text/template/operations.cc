#include "server/text/template/operations.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>

#include "server/text/template/python_text.h"
#include "server/text/template/unicode_text.h"

namespace latentd::jinja {

namespace {

Status undefined_error(const Value& value) {
  return template_error(std::string(value.why_undefined()));
}

Result<bool> equal_items(Runtime& runtime, const std::vector<Value>& a,
                         const std::vector<Value>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    LATENTD_ASSIGN_OR_RETURN(const bool same, equal(runtime, a[i], b[i]));
    if (!same) return false;
  }
  return true;
}

Result<bool> equal_maps(Runtime& runtime, const Map& a, const Map& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [key, value] : a.entries()) {
    LATENTD_RETURN_IF_ERROR(runtime.budget.spend(key.is_string() ? 1 : b.size()));
    const Value* other = b.find(key);
    if (other == nullptr) return false;
    LATENTD_ASSIGN_OR_RETURN(const bool same, equal(runtime, value, *other));
    if (!same) return false;
  }
  return true;
}

// Exact on x86, whose long double holds every 64-bit integer.
int compare_numbers(const Value& a, const Value& b) {
  const auto widen = [](const Value& v) {
    return v.is(Kind::kDouble) ? static_cast<long double>(v.as_double())
                               : static_cast<long double>(int_of(v));
  };
  const long double x = widen(a);
  const long double y = widen(b);
  if (x < y) return -1;
  if (x > y) return 1;
  return x == y ? 0 : 2;  // 2: not a number
}

bool is_integer_like(const Value& value) { return value.is(Kind::kInt) || value.is(Kind::kBool); }

Status unorderable(std::string_view op, const Value& a, const Value& b) {
  if (a.is_undefined()) return undefined_error(a);
  if (b.is_undefined()) return undefined_error(b);
  return template_error(
      fmt::format("'{}' is not supported between '{}' and '{}'", op, type_name(a), type_name(b)));
}

// -1, 0, 1; 2 when not comparable as numbers.
Result<int> order(Runtime& runtime, std::string_view op, const Value& a, const Value& b) {
  LATENTD_RETURN_IF_ERROR(runtime.budget.spend(1));
  if (is_number(a) && is_number(b)) return compare_numbers(a, b);
  if (a.is_string() && b.is_string()) {
    LATENTD_RETURN_IF_ERROR(runtime.budget.read(std::min(a.bytes().size(), b.bytes().size())));
    const int order = a.bytes().compare(b.bytes());
    return order < 0 ? -1 : order > 0 ? 1 : 0;
  }
  if (a.is_list_or_tuple() && b.is_list_or_tuple() && a.sequence()->form == b.sequence()->form) {
    const std::vector<Value>& x = a.sequence()->items;
    const std::vector<Value>& y = b.sequence()->items;
    for (std::size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      LATENTD_ASSIGN_OR_RETURN(const bool same, equal(runtime, x[i], y[i]));
      if (!same) return order(runtime, op, x[i], y[i]);
    }
    return x.size() < y.size() ? -1 : x.size() > y.size() ? 1 : 0;
  }
  return unorderable(op, a, b);
}

Result<bool> string_contains(Runtime& runtime, const Value& container, const Value& item) {
  if (!item.is_string()) {
    return template_error(
        fmt::format("'in <string>' needs a string on its left, not {}", type_name(item)));
  }
  LATENTD_RETURN_IF_ERROR(runtime.budget.read(container.bytes().size()));
  return container.bytes().find(item.bytes()) != std::string_view::npos;
}

}  // namespace

bool truthy(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
      return value.as_bool();
    case Kind::kInt:
      return value.as_int() != 0;
    case Kind::kDouble:
      return value.as_double() != 0;
    case Kind::kString:
      return !value.bytes().empty();
    case Kind::kSequence:
      return !value.sequence()->items.empty();
    case Kind::kMap:
      return value.map().size() > 0;
    case Kind::kLoop:
      return !value.loop()->items->empty();
    default:
      return true;
  }
}

bool is_number(const Value& value) { return is_integer_like(value) || value.is(Kind::kDouble); }

std::int64_t int_of(const Value& value) {
  return value.is(Kind::kBool) ? static_cast<std::int64_t>(value.as_bool()) : value.as_int();
}

double double_of(const Value& value) {
  return value.is(Kind::kDouble) ? value.as_double() : static_cast<double>(int_of(value));
}

bool hashable(const Value& value) {
  if (value.is(Kind::kMap)) return false;
  if (!value.is(Kind::kSequence) || value.sequence()->form == Sequence::Form::kRange) return true;
  const std::vector<Value>& items = value.sequence()->items;
  return value.sequence()->form == Sequence::Form::kTuple &&
         std::all_of(items.begin(), items.end(), hashable);
}

Result<bool> equal(Runtime& runtime, const Value& a, const Value& b) {
  LATENTD_RETURN_IF_ERROR(runtime.budget.spend(1));
  if (is_number(a) && is_number(b)) return compare_numbers(a, b) == 0;
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kString:
      if (a.bytes().size() != b.bytes().size()) return false;
      LATENTD_RETURN_IF_ERROR(runtime.budget.read(a.bytes().size()));
      return a.bytes() == b.bytes();
    case Kind::kSequence:
      if (a.sequence() == b.sequence()) return true;
      if (a.sequence()->form != b.sequence()->form) return false;
      if (a.sequence()->form == Sequence::Form::kValues) return false;  // by identity, as Python's
      return equal_items(runtime, a.sequence()->items, b.sequence()->items);
    case Kind::kMap:
      return equal_maps(runtime, a.map(), b.map());
    default:
      return a.same_as(b);
  }
}

Result<bool> less_than(Runtime& runtime, const Value& a, const Value& b) {
  return compare(runtime, CompareOp::kLt, a, b);
}

Result<bool> compare(Runtime& runtime, CompareOp op, const Value& a, const Value& b) {
  switch (op) {
    case CompareOp::kEq:
      return equal(runtime, a, b);
    case CompareOp::kNe: {
      LATENTD_ASSIGN_OR_RETURN(const bool same, equal(runtime, a, b));
      return !same;
    }
    case CompareOp::kIn:
      return contains(runtime, b, a);
    case CompareOp::kNotIn: {
      LATENTD_ASSIGN_OR_RETURN(const bool inside, contains(runtime, b, a));
      return !inside;
    }
    case CompareOp::kLt: {
      LATENTD_ASSIGN_OR_RETURN(const int found, order(runtime, "<", a, b));
      return found == -1;
    }
    case CompareOp::kLe: {
      LATENTD_ASSIGN_OR_RETURN(const int found, order(runtime, "<=", a, b));
      return found == -1 || found == 0;
    }
    case CompareOp::kGt: {
      LATENTD_ASSIGN_OR_RETURN(const int found, order(runtime, ">", a, b));
      return found == 1;
    }
    case CompareOp::kGe: {
      LATENTD_ASSIGN_OR_RETURN(const int found, order(runtime, ">=", a, b));
      return found == 1 || found == 0;
    }
  }
  return false;
}

Result<bool> contains(Runtime& runtime, const Value& container, const Value& item) {
  if (container.is_string()) return string_contains(runtime, container, item);
  if (container.is(Kind::kMap)) {
    if (!hashable(item)) {
      return template_error(fmt::format("a {} cannot be a key", type_name(item)));
    }
    LATENTD_RETURN_IF_ERROR(runtime.budget.spend(item.is_string() ? 1 : container.map().size()));
    return container.map().find(item) != nullptr;
  }
  LATENTD_ASSIGN_OR_RETURN(const ItemsPtr items, iterate(runtime, container));
  for (const Value& candidate : *items) {
    if (candidate.same_as(item)) return true;
    LATENTD_ASSIGN_OR_RETURN(const bool same, equal(runtime, candidate, item));
    if (same) return true;
  }
  return false;
}

namespace {

Result<ItemsPtr> characters(Runtime& runtime, const Value& value) {
  LATENTD_RETURN_IF_ERROR(runtime.budget.make_items(value.text().length));
  auto items = std::make_shared<std::vector<Value>>();
  items->reserve(value.text().length);
  const std::string_view text = value.bytes();
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t size = byte_offset(text.substr(at), 1);
    items->push_back(Value::valid_string(std::string(text.substr(at, size))));
    at += size;
  }
  return ItemsPtr(std::move(items));
}

}  // namespace

Result<ItemsPtr> iterate(Runtime& runtime, const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return std::make_shared<const std::vector<Value>>();
    case Kind::kString:
      return characters(runtime, value);
    case Kind::kSequence:
      return ItemsPtr(value.sequence(), &value.sequence()->items);
    case Kind::kMap: {
      LATENTD_RETURN_IF_ERROR(runtime.budget.make_items(value.map().size()));
      auto keys = std::make_shared<std::vector<Value>>();
      for (const auto& [key, ignored] : value.map().entries()) keys->push_back(key);
      return ItemsPtr(std::move(keys));
    }
    case Kind::kIterator: {
      Cursor& cursor = *value.cursor();
      auto left = std::make_shared<std::vector<Value>>(
          cursor.items.begin() + static_cast<std::ptrdiff_t>(cursor.next), cursor.items.end());
      cursor.next = cursor.items.size();
      LATENTD_RETURN_IF_ERROR(runtime.budget.make_items(left->size()));
      return ItemsPtr(std::move(left));
    }
    default:
      return template_error(fmt::format("'{}' object is not iterable", type_name(value)));
  }
}

Result<std::int64_t> length_of(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return 0;
    case Kind::kString:
      return static_cast<std::int64_t>(value.text().length);
    case Kind::kSequence:
      return static_cast<std::int64_t>(value.sequence()->items.size());
    case Kind::kMap:
      return static_cast<std::int64_t>(value.map().size());
    case Kind::kLoop:
      return static_cast<std::int64_t>(value.loop()->items->size());
    default:
      return template_error(fmt::format("object of type '{}' has no length", type_name(value)));
  }
}

}  // namespace latentd::jinja

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <unordered_set>

#include "server/text/template/filter_tables.h"
#include "server/text/template/operations.h"
#include "server/text/template/python_text.h"
#include "server/text/template/unicode_text.h"

namespace latentd::jinja {

namespace {

Result<Value> default_(Runtime&, const Value& input, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const auto bound,
                           bind("default", given, {{"default_value"}, {"boolean"}}));
  const bool also_false = bound[1].has_value() && truthy(*bound[1]);
  if (input.is_undefined() || (also_false && !truthy(input))) {
    return bound[0].value_or(Value::valid_string(""));
  }
  return input;
}

Result<Value> length(Runtime&, const Value& input, const Arguments& given) {
  LATENTD_RETURN_IF_ERROR(bind("length", given, {}).status());
  LATENTD_ASSIGN_OR_RETURN(const std::int64_t count, length_of(input));
  return Value::integer(count);
}

Result<Value> join(Runtime& runtime, const Value& input, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const auto bound, bind("join", given, {{"d"}, {"attribute"}}));
  LATENTD_ASSIGN_OR_RETURN(const std::string between,
                           to_text(runtime, bound[0].value_or(Value::valid_string(""))));
  LATENTD_ASSIGN_OR_RETURN(const AttributePath path,
                           AttributePath::parse(bound[1].value_or(Value::none())));
  LATENTD_ASSIGN_OR_RETURN(const ItemsPtr items, iterate(runtime, input));
  std::string out;
  for (std::size_t i = 0; i < items->size(); ++i) {
    if (i > 0) {
      out += between;
      LATENTD_RETURN_IF_ERROR(runtime.budget.grow_string(out.size(), between.size()));
    }
    LATENTD_ASSIGN_OR_RETURN(const Value item, path.get(runtime, (*items)[i]));
    LATENTD_RETURN_IF_ERROR(append_text(runtime, item, out));
  }
  return runtime.string(std::move(out));
}

Result<Value> first(Runtime& runtime, const Value& input, const Arguments& given) {
  LATENTD_RETURN_IF_ERROR(bind("first", given, {}).status());
  if (input.is(Kind::kIterator)) {
    Cursor& cursor = *input.cursor();
    if (cursor.next < cursor.items.size()) return cursor.items[cursor.next++];
    return Value::undefined("there is no first item, the sequence is empty");
  }
  if (input.is_string() && !input.bytes().empty())
    return get_item(runtime, input, Value::integer(0));
  LATENTD_ASSIGN_OR_RETURN(const ItemsPtr items, iterate(runtime, input));
  if (items->empty()) return Value::undefined("there is no first item, the sequence is empty");
  return items->front();
}

Result<Value> last(Runtime& runtime, const Value& input, const Arguments& given) {
  LATENTD_RETURN_IF_ERROR(bind("last", given, {}).status());
  if (input.is(Kind::kIterator)) return template_error("a generator cannot be reversed");
  if (input.is_string() && !input.bytes().empty()) {
    return get_item(runtime, input, Value::integer(-1));
  }
  LATENTD_ASSIGN_OR_RETURN(const ItemsPtr items, iterate(runtime, input));
  if (items->empty()) return Value::undefined("there is no last item, the sequence is empty");
  return items->back();
}

Result<Value> list(Runtime& runtime, const Value& input, const Arguments& given) {
  LATENTD_RETURN_IF_ERROR(bind("list", given, {}).status());
  LATENTD_ASSIGN_OR_RETURN(const ItemsPtr items, iterate(runtime, input));
  return runtime.list(*items);
}

Result<Value> reverse(Runtime& runtime, const Value& input, const Arguments& given) {
  LATENTD_RETURN_IF_ERROR(bind("reverse", given, {}).status());
  if (input.is_string()) {
    return get_slice(runtime, input, Value::none(), Value::none(), Value::integer(-1));
  }
  LATENTD_ASSIGN_OR_RETURN(const ItemsPtr items, iterate(runtime, input));
  std::vector<Value> reversed(items->rbegin(), items->rend());
  if (input.is(Kind::kIterator)) return runtime.list(std::move(reversed));
  return runtime.iterator(std::move(reversed));
}

Result<Value> items_of(Runtime& runtime, const Value& input, const Arguments& given) {
  LATENTD_RETURN_IF_ERROR(bind("items", given, {}).status());
  if (input.is_undefined()) return runtime.iterator({});
  if (!input.is(Kind::kMap)) return template_error("items needs a mapping");
  LATENTD_RETURN_IF_ERROR(runtime.budget.make_items(2 * input.map().size()));
  std::vector<Value> pairs;
  for (const auto& [key, value] : input.map().entries())
    pairs.push_back(Value::tuple({key, value}));
  return runtime.iterator(std::move(pairs));
}

// What sorting and telling apart go by: lower case unless `case_sensitive`.
Result<Value> sort_key(Runtime& runtime, Value value, bool case_sensitive) {
  if (case_sensitive || !value.is_string()) return value;
  return runtime.string(to_lower(value.bytes()));
}

struct Keyed {
  std::vector<Value> keys;
  Value value;
};

using KeyedLess = Result<bool> (*)(Runtime&, const Keyed&, const Keyed&);

// As Python orders single keys, and lists of keys: those ask for equality first, of which more
// values are capable.
Result<bool> key_less(Runtime& runtime, const Keyed& a, const Keyed& b) {
  return less_than(runtime, a.keys[0], b.keys[0]);
}

Result<bool> keys_less(Runtime& runtime, const Keyed& a, const Keyed& b) {
  for (std::size_t i = 0; i < a.keys.size(); ++i) {
    LATENTD_ASSIGN_OR_RETURN(const bool same, equal(runtime, a.keys[i], b.keys[i]));
    if (!same) return less_than(runtime, a.keys[i], b.keys[i]);
  }
  return false;
}

Status sort_keyed(Runtime& runtime, std::vector<Keyed>& items, KeyedLess is_less, bool descending) {
  Status failed;
  std::stable_sort(items.begin(), items.end(), [&](const Keyed& a, const Keyed& b) {
    if (!failed.ok()) return false;
    Result<bool> less = descending ? is_less(runtime, b, a) : is_less(runtime, a, b);
    if (!less.ok()) failed = less.status();
    return less.ok() && *less;
  });
  return failed;
}

Result<Value> sort(Runtime& runtime, const Value& input, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const auto bound,
                           bind("sort", given, {{"reverse"}, {"case_sensitive"}, {"attribute"}}));
  const bool case_sensitive = bound[1].has_value() && truthy(*bound[1]);
  std::vector<AttributePath> paths;
  const Value attribute = bound[2].value_or(Value::none());
  if (attribute.is_string()) {
    std::string_view left = attribute.bytes();
    while (true) {
      const std::size_t comma = left.find(',');
      LATENTD_ASSIGN_OR_RETURN(AttributePath path,
                               AttributePath::parse(Value::string(left.substr(0, comma))));
      paths.push_back(std::move(path));
      if (comma == std::string_view::npos) break;
      left.remove_prefix(comma + 1);
    }
  } else {
    LATENTD_ASSIGN_OR_RETURN(AttributePath path, AttributePath::parse(attribute));
    paths.push_back(std::move(path));
  }
  LATENTD_ASSIGN_OR_RETURN(const ItemsPtr items, iterate(runtime, input));
  std::vector<Keyed> keyed;
  for (const Value& item : *items) {
    Keyed one{{}, item};
    for (const AttributePath& path : paths) {
      LATENTD_ASSIGN_OR_RETURN(Value found, path.get(runtime, item));
      LATENTD_ASSIGN_OR_RETURN(Value key, sort_key(runtime, std::move(found), case_sensitive));
      one.keys.push_back(std::move(key));
    }
    keyed.push_back(std::move(one));
  }
  LATENTD_RETURN_IF_ERROR(
      sort_keyed(runtime, keyed, keys_less, bound[0].has_value() && truthy(*bound[0])));
  std::vector<Value> sorted;
  for (Keyed& one : keyed) sorted.push_back(std::move(one.value));
  return runtime.list(std::move(sorted));
}

Result<Value> dictsort(Runtime& runtime, const Value& input, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const auto bound,
                           bind("dictsort", given, {{"case_sensitive"}, {"by"}, {"reverse"}}));
  if (!input.is(Kind::kMap)) {
    return template_error(fmt::format("dictsort needs a mapping, not {}", type_name(input)));
  }
  const bool case_sensitive = bound[0].has_value() && truthy(*bound[0]);
  const Value by = bound[1].value_or(Value::valid_string("key"));
  if (!by.is_string() || (by.bytes() != "key" && by.bytes() != "value")) {
    return template_error("dictsort sorts by \"key\" or \"value\"");
  }
  std::vector<Keyed> keyed;
  for (const auto& [key, value] : input.map().entries()) {
    LATENTD_ASSIGN_OR_RETURN(Value by_key,
                             sort_key(runtime, by.bytes() == "key" ? key : value, case_sensitive));
    keyed.push_back({{std::move(by_key)}, Value::tuple({key, value})});
  }
  LATENTD_RETURN_IF_ERROR(
      sort_keyed(runtime, keyed, key_less, bound[2].has_value() && truthy(*bound[2])));
  std::vector<Value> sorted;
  for (Keyed& one : keyed) sorted.push_back(std::move(one.value));
  return runtime.list(std::move(sorted));
}

Result<Value> unique(Runtime& runtime, const Value& input, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const auto bound,
                           bind("unique", given, {{"case_sensitive"}, {"attribute"}}));
  const bool case_sensitive = bound[0].has_value() && truthy(*bound[0]);
  LATENTD_ASSIGN_OR_RETURN(const AttributePath path,
                           AttributePath::parse(bound[1].value_or(Value::none())));
  LATENTD_ASSIGN_OR_RETURN(const ItemsPtr items, iterate(runtime, input));
  std::unordered_set<std::string> seen_strings;
  std::vector<Value> seen_others;
  std::vector<Value> kept;
  for (const Value& item : *items) {
    LATENTD_ASSIGN_OR_RETURN(Value found, path.get(runtime, item));
    LATENTD_ASSIGN_OR_RETURN(Value key, sort_key(runtime, std::move(found), case_sensitive));
    if (key.is_string()) {
      if (seen_strings.emplace(key.bytes()).second) kept.push_back(item);
      continue;
    }
    if (!hashable(key)) {
      return template_error(fmt::format("unique cannot tell apart a {}", type_name(key)));
    }
    bool is_new = true;
    for (std::size_t i = 0; i < seen_others.size() && is_new; ++i) {
      LATENTD_ASSIGN_OR_RETURN(const bool same, equal(runtime, seen_others[i], key));
      is_new = !same;
    }
    if (!is_new) continue;
    seen_others.push_back(std::move(key));
    kept.push_back(item);
  }
  return runtime.iterator(std::move(kept));
}

template <bool kLargest>
Result<Value> extreme(Runtime& runtime, const Value& input, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const auto bound,
                           bind("min", given, {{"case_sensitive"}, {"attribute"}}));
  const bool case_sensitive = bound[0].has_value() && truthy(*bound[0]);
  LATENTD_ASSIGN_OR_RETURN(const AttributePath path,
                           AttributePath::parse(bound[1].value_or(Value::none())));
  LATENTD_ASSIGN_OR_RETURN(const ItemsPtr items, iterate(runtime, input));
  if (items->empty()) return Value::undefined("there is no item, the sequence is empty");
  std::optional<Keyed> best;
  for (const Value& item : *items) {
    LATENTD_ASSIGN_OR_RETURN(Value found, path.get(runtime, item));
    LATENTD_ASSIGN_OR_RETURN(Value key, sort_key(runtime, std::move(found), case_sensitive));
    if (best.has_value()) {
      const CompareOp op = kLargest ? CompareOp::kGt : CompareOp::kLt;
      LATENTD_ASSIGN_OR_RETURN(const bool better, compare(runtime, op, key, best->keys[0]));
      if (!better) continue;
    }
    best = Keyed{{std::move(key)}, item};
  }
  return best->value;
}

Result<Value> sum(Runtime& runtime, const Value& input, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const auto bound, bind("sum", given, {{"attribute"}, {"start"}}));
  LATENTD_ASSIGN_OR_RETURN(const AttributePath path,
                           AttributePath::parse(bound[0].value_or(Value::none())));
  Value total = bound[1].value_or(Value::integer(0));
  if (total.is_string()) return template_error("sum cannot add strings, use join");
  LATENTD_ASSIGN_OR_RETURN(const ItemsPtr items, iterate(runtime, input));
  for (const Value& item : *items) {
    LATENTD_ASSIGN_OR_RETURN(const Value found, path.get(runtime, item));
    LATENTD_ASSIGN_OR_RETURN(total, binary(runtime, BinaryOp::kAdd, total, found));
    LATENTD_RETURN_IF_ERROR(runtime.budget.check_value_depth(total.depth()));
  }
  return total;
}

Result<Value> batch(Runtime& runtime, const Value& input, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const auto bound,
                           bind("batch", given, {{"linecount", true}, {"fill_with"}}));
  if (!bound[0]->is(Kind::kInt) || bound[0]->as_int() < 1) {
    return template_error("batch needs a positive integer");
  }
  const auto size = static_cast<std::size_t>(bound[0]->as_int());
  const Value fill = bound[1].value_or(Value::none());
  LATENTD_ASSIGN_OR_RETURN(const ItemsPtr items, iterate(runtime, input));
  std::vector<Value> batches;
  for (std::size_t from = 0; from < items->size();) {
    const std::size_t count = std::min(size, items->size() - from);
    const auto begin = items->begin() + static_cast<std::ptrdiff_t>(from);
    std::vector<Value> one(begin, begin + static_cast<std::ptrdiff_t>(count));
    if (!fill.is(Kind::kNone)) {
      LATENTD_RETURN_IF_ERROR(runtime.budget.make_items(size));
      one.resize(size, fill);
    }
    LATENTD_ASSIGN_OR_RETURN(Value made, runtime.list(std::move(one)));
    batches.push_back(std::move(made));
    from += count;
  }
  return runtime.iterator(std::move(batches));
}

constexpr std::array<NamedFilter, 17> kFilters = {{{"batch", batch},
                                                   {"count", length},
                                                   {"d", default_},
                                                   {"default", default_},
                                                   {"dictsort", dictsort},
                                                   {"first", first},
                                                   {"items", items_of},
                                                   {"join", join},
                                                   {"last", last},
                                                   {"length", length},
                                                   {"list", list},
                                                   {"max", extreme<true>},
                                                   {"min", extreme<false>},
                                                   {"reverse", reverse},
                                                   {"sort", sort},
                                                   {"sum", sum},
                                                   {"unique", unique}}};

}  // namespace

std::span<const NamedFilter> sequence_filters() { return kFilters; }

}  // namespace latentd::jinja

#include "server/text/template/string_methods.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>

#include "server/text/template/builtins.h"
#include "server/text/template/operations.h"
#include "server/text/template/python_text.h"
#include "server/text/template/string_split.h"
#include "server/text/template/unicode_text.h"
#include "server/text/utf8.h"

namespace latentd::jinja {

namespace {

using Bound = std::vector<std::optional<Value>>;

Status needs_string(std::string_view method, const Value& got) {
  return template_error(fmt::format("{}() needs a string, not {}", method, type_name(got)));
}

Result<std::string_view> string_of(std::string_view method, const Value& value) {
  if (!value.is_string()) return needs_string(method, value);
  return value.bytes();
}

// An optional string: none and absent are nullopt.
Result<std::optional<std::string_view>> optional_string(std::string_view method,
                                                        const std::optional<Value>& value) {
  if (!value.has_value() || value->is(Kind::kNone)) return std::optional<std::string_view>();
  LATENTD_ASSIGN_OR_RETURN(std::string_view text, string_of(method, *value));
  return std::optional<std::string_view>(text);
}

Result<std::int64_t> integer_or(std::string_view method, const std::optional<Value>& value,
                                std::int64_t absent) {
  if (!value.has_value()) return absent;
  if (value->is(Kind::kInt) || value->is(Kind::kBool)) return int_of(*value);
  return template_error(fmt::format("{}() needs an integer, not {}", method, type_name(*value)));
}

template <std::string (*kConvert)(std::string_view)>
Result<Value> convert(Runtime& runtime, const Value& text, const Arguments& given) {
  if (!given.empty()) return template_error("this method takes no arguments");
  LATENTD_RETURN_IF_ERROR(runtime.budget.spend(text.bytes().size() / 16));
  return runtime.string(kConvert(text.bytes()));
}

std::string swap_case(std::string_view text) {
  std::string out;
  for (const char32_t c : code_points(text)) {
    std::string one;
    utf8::append(c, one);
    out += is_upper(one) ? to_lower(one) : to_upper(one);
  }
  return out;
}

template <Side kSide>
Result<Value> strip(Runtime& runtime, const Value& text, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const Bound bound, bind("strip", given, {{"chars"}}));
  LATENTD_ASSIGN_OR_RETURN(const auto chars, optional_string("strip", bound[0]));
  const std::string_view whole = text.bytes();
  if (chars.has_value()) LATENTD_RETURN_IF_ERROR(runtime.budget.make_items(chars->size()));
  const std::string_view kept =
      chars.has_value() ? strip_chars(whole, *chars, kSide) : strip_space(whole, kSide);
  const std::size_t compared =
      (whole.size() - kept.size()) * (chars.has_value() ? chars->size() : 1);
  LATENTD_RETURN_IF_ERROR(runtime.budget.read(compared));
  if (kept.size() == whole.size()) return text;
  return runtime.string(std::string(kept));
}

// The part of `text` between two optional places, and where it starts.
struct Window {
  std::string_view text;
  std::int64_t start = 0;  // in code points
  bool valid = true;       // false: the start is past the end
};

Result<Window> window(Runtime& runtime, const Value& text, const std::optional<Value>& start,
                      const std::optional<Value>& stop) {
  const auto length = static_cast<std::int64_t>(text.text().length);
  const auto absent = [](const std::optional<Value>& v) {
    return !v.has_value() || v->is(Kind::kNone);
  };
  if (absent(start) && absent(stop)) return Window{text.bytes()};
  LATENTD_ASSIGN_OR_RETURN(std::int64_t from, absent(start) ? Result<std::int64_t>(std::int64_t{0})
                                                            : integer_or("str", start, 0));
  LATENTD_ASSIGN_OR_RETURN(
      std::int64_t to, absent(stop) ? Result<std::int64_t>(length) : integer_or("str", stop, 0));
  if (from < 0) from = std::max<std::int64_t>(from + length, 0);
  if (to < 0) to = std::max<std::int64_t>(to + length, 0);
  to = std::min(to, length);
  if (from > to) return Window{{}, from, false};
  LATENTD_RETURN_IF_ERROR(runtime.budget.read(text.bytes().size()));
  const std::size_t first = byte_offset(text.bytes(), static_cast<std::size_t>(from));
  const std::string_view rest = text.bytes().substr(first);
  return Window{rest.substr(0, byte_offset(rest, static_cast<std::size_t>(to - from))), from, true};
}

enum class Direction : std::uint8_t { kFirst, kLast };

template <Direction kDirection, bool kMustExist>
Result<Value> find(Runtime& runtime, const Value& text, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const Bound bound,
                           bind("find", given, {{"sub", true}, {"start"}, {"end"}}));
  LATENTD_ASSIGN_OR_RETURN(const std::string_view wanted, string_of("find", *bound[0]));
  LATENTD_ASSIGN_OR_RETURN(const Window in, window(runtime, text, bound[1], bound[2]));
  LATENTD_RETURN_IF_ERROR(runtime.budget.read(in.text.size()));
  const std::size_t at = !in.valid                         ? std::string_view::npos
                         : kDirection == Direction::kFirst ? in.text.find(wanted)
                                                           : in.text.rfind(wanted);
  if (at == std::string_view::npos) {
    if (kMustExist) return template_error("substring not found");
    return Value::integer(-1);
  }
  return Value::integer(in.start +
                        static_cast<std::int64_t>(code_point_count(in.text.substr(0, at))));
}

Result<Value> count(Runtime& runtime, const Value& text, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const Bound bound,
                           bind("count", given, {{"sub", true}, {"start"}, {"end"}}));
  LATENTD_ASSIGN_OR_RETURN(const std::string_view wanted, string_of("count", *bound[0]));
  LATENTD_ASSIGN_OR_RETURN(const Window in, window(runtime, text, bound[1], bound[2]));
  LATENTD_RETURN_IF_ERROR(runtime.budget.read(in.text.size()));
  if (!in.valid) return Value::integer(0);
  if (wanted.empty()) {
    return Value::integer(static_cast<std::int64_t>(code_point_count(in.text)) + 1);
  }
  std::int64_t found = 0;
  for (std::size_t at = in.text.find(wanted); at != std::string_view::npos;
       at = in.text.find(wanted, at + wanted.size())) {
    ++found;
  }
  return Value::integer(found);
}

template <bool kAtStart>
Result<Value> has_affix(Runtime& runtime, const Value& text, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const Bound bound,
                           bind("startswith", given, {{"prefix", true}, {"start"}, {"end"}}));
  LATENTD_ASSIGN_OR_RETURN(const Window in, window(runtime, text, bound[1], bound[2]));
  const bool is_tuple =
      bound[0]->is(Kind::kSequence) && bound[0]->sequence()->form == Sequence::Form::kTuple;
  const std::vector<Value> single = {*bound[0]};
  for (const Value& affix : is_tuple ? bound[0]->sequence()->items : single) {
    LATENTD_ASSIGN_OR_RETURN(const std::string_view wanted, string_of("startswith", affix));
    LATENTD_RETURN_IF_ERROR(runtime.budget.read(wanted.size()));
    if (!in.valid) continue;
    if (kAtStart ? in.text.starts_with(wanted) : in.text.ends_with(wanted)) {
      return Value::boolean(true);
    }
  }
  return Value::boolean(false);
}

template <bool kAtStart>
Result<Value> remove_affix(Runtime& runtime, const Value& text, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const Bound bound, bind("removeprefix", given, {{"affix", true}}));
  LATENTD_ASSIGN_OR_RETURN(const std::string_view affix, string_of("removeprefix", *bound[0]));
  std::string_view kept = text.bytes();
  if (kAtStart && kept.starts_with(affix)) {
    kept.remove_prefix(affix.size());
  } else if (!kAtStart && kept.ends_with(affix)) {
    kept.remove_suffix(affix.size());
  }
  return kept.size() == text.bytes().size() ? Result<Value>(text)
                                            : runtime.string(std::string(kept));
}

Result<Value> replace(Runtime& runtime, const Value& text, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const Bound bound,
                           bind("replace", given, {{"old", true}, {"new", true}, {"count"}}));
  LATENTD_ASSIGN_OR_RETURN(const std::string_view from, string_of("replace", *bound[0]));
  LATENTD_ASSIGN_OR_RETURN(const std::string_view to, string_of("replace", *bound[1]));
  LATENTD_ASSIGN_OR_RETURN(const std::int64_t limit, integer_or("replace", bound[2], -1));
  return replace_text(runtime, text.bytes(), from, to, limit);
}

Result<Value> join(Runtime& runtime, const Value& separator, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const Bound bound, bind("join", given, {{"iterable", true}}));
  LATENTD_ASSIGN_OR_RETURN(const ItemsPtr items, iterate(runtime, *bound[0]));
  std::string out;
  for (std::size_t i = 0; i < items->size(); ++i) {
    LATENTD_ASSIGN_OR_RETURN(const std::string_view item, string_of("join", (*items)[i]));
    const std::string_view between = i == 0 ? std::string_view() : separator.bytes();
    LATENTD_RETURN_IF_ERROR(runtime.budget.grow_string(out.size() + between.size() + item.size(),
                                                       between.size() + item.size()));
    out.append(between).append(item);
  }
  return Value::valid_string(std::move(out));
}

template <bool (*kTest)(char32_t)>
Result<Value> all_are(Runtime& runtime, const Value& text, const Arguments& given) {
  if (!given.empty()) return template_error("this method takes no arguments");
  LATENTD_RETURN_IF_ERROR(runtime.budget.spend(text.bytes().size() / 16));
  const std::vector<char32_t> points = code_points(text.bytes());
  return Value::boolean(!points.empty() && std::all_of(points.begin(), points.end(), kTest));
}

template <bool (*kTest)(std::string_view)>
Result<Value> whole_is(Runtime& runtime, const Value& text, const Arguments& given) {
  if (!given.empty()) return template_error("this method takes no arguments");
  LATENTD_RETURN_IF_ERROR(runtime.budget.spend(text.bytes().size() / 16));
  return Value::boolean(kTest(text.bytes()));
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; });
}

// Puts `left` and `right` copies of the fill character around `text`.
Result<Value> pad(Runtime& runtime, const Value& text, std::int64_t left, std::int64_t right,
                  std::string_view fill) {
  if (left <= 0 && right <= 0) return text;
  left = std::max<std::int64_t>(left, 0);
  right = std::max<std::int64_t>(right, 0);
  if (code_point_count(fill) != 1) return template_error("the fill must be one character long");
  const std::size_t limit = runtime.budget.limits().max_string_bytes;
  const auto copies = static_cast<std::size_t>(left) + static_cast<std::size_t>(right);
  LATENTD_RETURN_IF_ERROR(runtime.budget.make_string(
      copies > limit ? copies : copies * fill.size() + text.bytes().size()));
  std::string out;
  for (std::int64_t i = 0; i < left; ++i) out += fill;
  out += text.bytes();
  for (std::int64_t i = 0; i < right; ++i) out += fill;
  return Value::valid_string(std::move(out));
}

enum class Align : std::uint8_t { kLeft, kRight, kCenter };

template <Align kAlign>
Result<Value> justify(Runtime& runtime, const Value& text, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const Bound bound,
                           bind("justify", given, {{"width", true}, {"fillchar"}}));
  LATENTD_ASSIGN_OR_RETURN(const std::int64_t width, integer_or("justify", bound[0], 0));
  LATENTD_ASSIGN_OR_RETURN(const auto chosen, optional_string("justify", bound[1]));
  const std::string_view fill = chosen.value_or(" ");
  if (kAlign == Align::kCenter) return center_text(runtime, text, width, fill);
  const std::int64_t missing =
      std::max<std::int64_t>(width, 0) - static_cast<std::int64_t>(text.text().length);
  return kAlign == Align::kLeft ? pad(runtime, text, 0, missing, fill)
                                : pad(runtime, text, missing, 0, fill);
}

Result<Value> zero_fill(Runtime& runtime, const Value& text, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const Bound bound, bind("zfill", given, {{"width", true}}));
  LATENTD_ASSIGN_OR_RETURN(const std::int64_t width, integer_or("zfill", bound[0], 0));
  const std::int64_t missing =
      std::max<std::int64_t>(width, 0) - static_cast<std::int64_t>(text.text().length);
  const std::string_view whole = text.bytes();
  const bool is_signed = whole.starts_with('-') || whole.starts_with('+');
  if (missing <= 0 || !is_signed) return pad(runtime, text, missing, 0, "0");
  LATENTD_ASSIGN_OR_RETURN(
      const Value digits,
      pad(runtime, Value::valid_string(std::string(whole.substr(1))), missing, 0, "0"));
  return runtime.string(std::string(whole.substr(0, 1)).append(digits.bytes()));
}

constexpr std::array<Method, 37> kMethods = {{{"capitalize", convert<to_capitalized>},
                                              {"center", justify<Align::kCenter>},
                                              {"count", count},
                                              {"endswith", has_affix<false>},
                                              {"find", find<Direction::kFirst, false>},
                                              {"index", find<Direction::kFirst, true>},
                                              {"isalnum", all_are<is_alphanumeric>},
                                              {"isalpha", all_are<is_alphabetic>},
                                              {"isascii", whole_is<is_ascii>},
                                              {"isdecimal", all_are<is_digit>},
                                              {"isdigit", all_are<is_digit>},
                                              {"islower", whole_is<is_lower>},
                                              {"isnumeric", all_are<is_digit>},
                                              {"isspace", all_are<is_space>},
                                              {"isupper", whole_is<is_upper>},
                                              {"join", join},
                                              {"ljust", justify<Align::kLeft>},
                                              {"lower", convert<to_lower>},
                                              {"lstrip", strip<Side::kLeft>},
                                              {"partition", partition_first},
                                              {"removeprefix", remove_affix<true>},
                                              {"removesuffix", remove_affix<false>},
                                              {"replace", replace},
                                              {"rfind", find<Direction::kLast, false>},
                                              {"rindex", find<Direction::kLast, true>},
                                              {"rjust", justify<Align::kRight>},
                                              {"rpartition", partition_last},
                                              {"rsplit", split_last},
                                              {"rstrip", strip<Side::kRight>},
                                              {"split", split_first},
                                              {"splitlines", split_into_lines},
                                              {"startswith", has_affix<true>},
                                              {"strip", strip<Side::kBoth>},
                                              {"swapcase", convert<swap_case>},
                                              {"title", convert<to_title>},
                                              {"upper", convert<to_upper>},
                                              {"zfill", zero_fill}}};

}  // namespace

std::span<const Method> string_methods() { return kMethods; }

Result<Value> replace_text(Runtime& runtime, std::string_view text, std::string_view from,
                           std::string_view to, std::int64_t count) {
  LATENTD_RETURN_IF_ERROR(runtime.budget.read(text.size()));
  std::string out;
  std::size_t at = 0;
  const auto copy = [&](std::string_view piece) {
    out += piece;
    return runtime.budget.grow_string(out.size(), piece.size());
  };
  while (count != 0) {
    // An empty `from` stands before every character and at the end.
    const std::size_t found = text.find(from, at);
    if (found == std::string_view::npos) break;
    LATENTD_RETURN_IF_ERROR(copy(text.substr(at, found - at)));
    LATENTD_RETURN_IF_ERROR(copy(to));
    at = found + from.size();
    if (count > 0) --count;
    if (!from.empty()) continue;
    if (at == text.size()) return Value::valid_string(std::move(out));
    const std::size_t size = byte_offset(text.substr(at), 1);
    LATENTD_RETURN_IF_ERROR(copy(text.substr(at, size)));
    at += size;
  }
  LATENTD_RETURN_IF_ERROR(copy(text.substr(at)));
  return Value::valid_string(std::move(out));
}

Result<Value> center_text(Runtime& runtime, const Value& text, std::int64_t width,
                          std::string_view fill) {
  const auto length = static_cast<std::int64_t>(text.text().length);
  const std::int64_t missing = std::max<std::int64_t>(width, 0) - length;
  if (missing <= 0) return text;
  const std::int64_t left = missing / 2 + (missing & width & 1);
  return pad(runtime, text, left, missing - left, fill);
}

}  // namespace latentd::jinja

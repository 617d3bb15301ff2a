#include "server/text/template/string_split.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>

#include "server/text/template/operations.h"
#include "server/text/template/python_text.h"
#include "server/text/template/string_methods.h"
#include "server/text/template/unicode_text.h"
#include "server/text/utf8.h"

namespace latentd::jinja {

namespace {

using Pieces = std::vector<std::string_view>;

Result<Value> as_list(Runtime& runtime, const Pieces& pieces) {
  LATENTD_RETURN_IF_ERROR(runtime.budget.make_items(pieces.size()));
  std::vector<Value> items;
  items.reserve(pieces.size());
  for (const std::string_view piece : pieces) {
    LATENTD_ASSIGN_OR_RETURN(Value item, runtime.string(std::string(piece)));
    items.push_back(std::move(item));
  }
  return Value::list(std::move(items));
}

// Where white space, or what is not, first stands.
std::size_t find_space(std::string_view text, bool wanted) {
  std::size_t size = 0;
  for (std::size_t at = 0; at < text.size(); at += size) {
    if (is_space(utf8::decode_valid(text.data() + at, size)) == wanted) return at;
  }
  return text.size();
}

// Where the run of code points at the end starts, of which is_space is `wanted`.
std::size_t last_run(std::string_view text, bool wanted) {
  while (!text.empty()) {
    std::size_t start = text.size() - 1;
    while (start > 0 && (text[start] & 0xC0) == 0x80) --start;
    std::size_t size = 0;
    if (is_space(utf8::decode_valid(text.data() + start, size)) != wanted) break;
    text = text.substr(0, start);
  }
  return text.size();
}

Pieces split_space(std::string_view text, std::int64_t limit) {
  Pieces pieces;
  text = strip_space(text, Side::kLeft);
  while (!text.empty()) {
    if (limit >= 0 && static_cast<std::int64_t>(pieces.size()) == limit) {
      pieces.push_back(text);
      break;
    }
    const std::size_t end = find_space(text, true);
    pieces.push_back(text.substr(0, end));
    text = strip_space(text.substr(end), Side::kLeft);
  }
  return pieces;
}

Pieces split_space_from_right(std::string_view text, std::int64_t limit) {
  Pieces pieces;
  text = strip_space(text, Side::kRight);
  while (!text.empty()) {
    if (limit >= 0 && static_cast<std::int64_t>(pieces.size()) == limit) {
      pieces.push_back(text);
      break;
    }
    const std::size_t start = last_run(text, false);
    pieces.push_back(text.substr(start));
    text = strip_space(text.substr(0, start), Side::kRight);
  }
  std::reverse(pieces.begin(), pieces.end());
  return pieces;
}

Pieces split_at(std::string_view text, std::string_view separator, std::int64_t limit) {
  Pieces pieces;
  while (limit < 0 || static_cast<std::int64_t>(pieces.size()) < limit) {
    const std::size_t found = text.find(separator);
    if (found == std::string_view::npos) break;
    pieces.push_back(text.substr(0, found));
    text.remove_prefix(found + separator.size());
  }
  pieces.push_back(text);
  return pieces;
}

Pieces split_at_from_right(std::string_view text, std::string_view separator, std::int64_t limit) {
  Pieces pieces;
  while (limit < 0 || static_cast<std::int64_t>(pieces.size()) < limit) {
    const std::size_t found = text.rfind(separator);
    if (found == std::string_view::npos) break;
    pieces.push_back(text.substr(found + separator.size()));
    text = text.substr(0, found);
  }
  pieces.push_back(text);
  std::reverse(pieces.begin(), pieces.end());
  return pieces;
}

Result<Value> split(Runtime& runtime, const Value& text, const Arguments& given, bool from_right) {
  LATENTD_ASSIGN_OR_RETURN(const auto bound, bind("split", given, {{"sep"}, {"maxsplit"}}));
  std::int64_t limit = -1;
  if (bound[1].has_value()) {
    if (!bound[1]->is(Kind::kInt) && !bound[1]->is(Kind::kBool)) {
      return template_error("split() needs an integer as its limit");
    }
    limit = int_of(*bound[1]);
  }
  LATENTD_RETURN_IF_ERROR(runtime.budget.spend(text.bytes().size() / 32));
  if (!bound[0].has_value() || bound[0]->is(Kind::kNone)) {
    return as_list(runtime, from_right ? split_space_from_right(text.bytes(), limit)
                                       : split_space(text.bytes(), limit));
  }
  if (!bound[0]->is_string()) {
    return template_error(fmt::format("split() needs a string, not {}", type_name(*bound[0])));
  }
  const std::string_view separator = bound[0]->bytes();
  if (separator.empty()) return template_error("split() needs a separator that is not empty");
  return as_list(runtime, from_right ? split_at_from_right(text.bytes(), separator, limit)
                                     : split_at(text.bytes(), separator, limit));
}

Result<Value> partition(Runtime& runtime, const Value& text, const Arguments& given,
                        bool from_right) {
  LATENTD_ASSIGN_OR_RETURN(const auto bound, bind("partition", given, {{"sep", true}}));
  if (!bound[0]->is_string() || bound[0]->bytes().empty()) {
    return template_error("partition() needs a string that is not empty");
  }
  const std::string_view whole = text.bytes();
  const std::string_view separator = bound[0]->bytes();
  LATENTD_RETURN_IF_ERROR(runtime.budget.make_string(whole.size()));
  const auto piece = [](std::string_view part) { return Value::valid_string(std::string(part)); };
  const std::size_t at = from_right ? whole.rfind(separator) : whole.find(separator);
  if (at == std::string_view::npos) {
    return from_right ? Value::tuple({piece(""), piece(""), text})
                      : Value::tuple({text, piece(""), piece("")});
  }
  return Value::tuple(
      {piece(whole.substr(0, at)), piece(separator), piece(whole.substr(at + separator.size()))});
}

bool ends_line(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

}  // namespace

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  Pieces lines;
  std::size_t start = 0;
  for (std::size_t at = 0, size = 0; at < text.size(); at += size) {
    const char32_t c = utf8::decode_valid(text.data() + at, size);
    if (!ends_line(c)) continue;
    if (c == '\r' && at + 1 < text.size() && text[at + 1] == '\n') size = 2;
    lines.push_back(text.substr(start, (keep_ends ? at + size : at) - start));
    start = at + size;
  }
  if (start < text.size()) lines.push_back(text.substr(start));
  return lines;
}

Result<Value> split_first(Runtime& runtime, const Value& text, const Arguments& given) {
  return split(runtime, text, given, false);
}

Result<Value> split_last(Runtime& runtime, const Value& text, const Arguments& given) {
  return split(runtime, text, given, true);
}

Result<Value> split_into_lines(Runtime& runtime, const Value& text, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const auto bound, bind("splitlines", given, {{"keepends"}}));
  LATENTD_RETURN_IF_ERROR(runtime.budget.spend(text.bytes().size() / 32));
  return as_list(runtime, split_lines(text.bytes(), bound[0].has_value() && truthy(*bound[0])));
}

Result<Value> partition_first(Runtime& runtime, const Value& text, const Arguments& given) {
  return partition(runtime, text, given, false);
}

Result<Value> partition_last(Runtime& runtime, const Value& text, const Arguments& given) {
  return partition(runtime, text, given, true);
}

}  // namespace latentd::jinja

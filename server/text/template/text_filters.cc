#include <spdlog/fmt/fmt.h>

#include <array>

#include "server/text/template/filter_tables.h"
#include "server/text/template/operations.h"
#include "server/text/template/printf_format.h"
#include "server/text/template/python_text.h"
#include "server/text/template/string_methods.h"
#include "server/text/template/unicode_text.h"

namespace latentd::jinja {

namespace {

Result<std::int64_t> integer_or(std::string_view filter, const std::optional<Value>& value,
                                std::int64_t absent) {
  if (!value.has_value()) return absent;
  if (value->is(Kind::kInt) || value->is(Kind::kBool)) return int_of(*value);
  return template_error(fmt::format("{} needs an integer, not {}", filter, type_name(*value)));
}

template <std::string (*kConvert)(std::string_view)>
Result<Value> convert(Runtime& runtime, const Value& input, const Arguments& given) {
  LATENTD_RETURN_IF_ERROR(bind("the filter", given, {}).status());
  LATENTD_ASSIGN_OR_RETURN(const std::string text, to_text(runtime, input));
  LATENTD_RETURN_IF_ERROR(runtime.budget.spend(text.size() / 16));
  return runtime.string(kConvert(text));
}

// Words start after white space, hyphens and opening brackets.
std::string title_words(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    std::size_t end = 0;
    while (end < text.size()) {
      const std::size_t size = byte_offset(text.substr(end), 1);
      const std::string_view c = text.substr(end, size);
      const bool separates =
          (size == 1 && std::string_view("-({[<").find(c) != std::string_view::npos) ||
          strip_space(c, Side::kBoth).empty();
      if (separates) break;
      end += size;
    }
    const std::string_view word = text.substr(0, end);
    const std::size_t first = byte_offset(word, 1);
    out += to_upper(word.substr(0, first));
    out += to_lower(word.substr(first));
    const std::size_t separator = byte_offset(text.substr(end), 1);
    out += text.substr(end, separator);
    text.remove_prefix(end + separator);
  }
  return out;
}

Result<Value> string(Runtime& runtime, const Value& input, const Arguments& given) {
  LATENTD_RETURN_IF_ERROR(bind("string", given, {}).status());
  if (input.is_string()) return input;
  LATENTD_ASSIGN_OR_RETURN(std::string text, to_text(runtime, input));
  return Value::valid_string(std::move(text));
}

// Text marked as safe for HTML is plain text here.
Result<Value> safe(Runtime& runtime, const Value& input, const Arguments& given) {
  return string(runtime, input, given);
}

Result<Value> trim(Runtime& runtime, const Value& input, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const auto bound, bind("trim", given, {{"chars"}}));
  LATENTD_ASSIGN_OR_RETURN(const Value text, string(runtime, input, {}));
  Arguments arguments;
  if (bound[0].has_value()) arguments.positional.push_back(*bound[0]);
  return find_method(text, "strip")->call(runtime, text, arguments);
}

Result<Value> replace(Runtime& runtime, const Value& input, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const auto bound,
                           bind("replace", given, {{"old", true}, {"new", true}, {"count"}}));
  LATENTD_ASSIGN_OR_RETURN(const std::string text, to_text(runtime, input));
  LATENTD_ASSIGN_OR_RETURN(const std::string from, to_text(runtime, *bound[0]));
  LATENTD_ASSIGN_OR_RETURN(const std::string to, to_text(runtime, *bound[1]));
  const bool all = !bound[2].has_value() || bound[2]->is(Kind::kNone);
  LATENTD_ASSIGN_OR_RETURN(const std::int64_t count,
                           integer_or("replace", all ? std::nullopt : bound[2], -1));
  return replace_text(runtime, text, from, to, count);
}

Result<Value> indent(Runtime& runtime, const Value& input, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const auto bound,
                           bind("indent", given, {{"width"}, {"first"}, {"blank"}}));
  if (!input.is_string()) {
    return template_error(fmt::format("indent needs a string, not {}", type_name(input)));
  }
  std::string indentation;
  if (bound[0].has_value() && bound[0]->is_string()) {
    indentation = bound[0]->bytes();
  } else {
    LATENTD_ASSIGN_OR_RETURN(const std::int64_t width, integer_or("indent", bound[0], 4));
    LATENTD_RETURN_IF_ERROR(
        runtime.budget.make_string(width < 0 ? 0 : static_cast<std::size_t>(width)));
    indentation.assign(width < 0 ? 0 : static_cast<std::size_t>(width), ' ');
  }
  const bool first = bound[1].has_value() && truthy(*bound[1]);
  const bool blank = bound[2].has_value() && truthy(*bound[2]);
  const std::string ended = std::string(input.bytes()) + "\n";
  LATENTD_RETURN_IF_ERROR(runtime.budget.make_string(ended.size()));
  const std::vector<std::string_view> lines = split_lines(ended, false);
  std::string out = first ? indentation : "";
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const std::size_t before = out.size();
    if (i > 0) out += '\n';
    if (i > 0 && (blank || !lines[i].empty())) out += indentation;
    out += lines[i];
    LATENTD_RETURN_IF_ERROR(runtime.budget.grow_string(out.size(), out.size() - before));
  }
  return Value::valid_string(std::move(out));
}

Result<Value> center(Runtime& runtime, const Value& input, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(const auto bound, bind("center", given, {{"width"}}));
  LATENTD_ASSIGN_OR_RETURN(const std::int64_t width, integer_or("center", bound[0], 80));
  LATENTD_ASSIGN_OR_RETURN(const Value text, string(runtime, input, {}));
  return center_text(runtime, text, width, " ");
}

Result<Value> truncate(Runtime& runtime, const Value& input, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(
      const auto bound, bind("truncate", given, {{"length"}, {"killwords"}, {"end"}, {"leeway"}}));
  LATENTD_ASSIGN_OR_RETURN(const std::int64_t input_length, length_of(input));
  LATENTD_ASSIGN_OR_RETURN(const std::int64_t length, integer_or("truncate", bound[0], 255));
  const bool default_leeway = !bound[3].has_value() || bound[3]->is(Kind::kNone);
  LATENTD_ASSIGN_OR_RETURN(const std::int64_t leeway,
                           integer_or("truncate", default_leeway ? std::nullopt : bound[3], 5));
  const Value end = bound[2].value_or(Value::valid_string("..."));
  if (!end.is_string()) return template_error("truncate needs a string as its end");
  const auto end_length = static_cast<std::int64_t>(end.text().length);
  if (length < end_length || leeway < 0) {
    return template_error("truncate needs a length of at least that of its end");
  }
  if (input_length <= length || input_length - length <= leeway) return input;
  if (!input.is_string()) {
    return template_error(fmt::format("truncate needs a string, not {}", type_name(input)));
  }
  LATENTD_RETURN_IF_ERROR(runtime.budget.read(input.bytes().size()));
  std::string_view kept = input.bytes();
  kept = kept.substr(0, byte_offset(kept, static_cast<std::size_t>(length - end_length)));
  if (!bound[1].has_value() || !truthy(*bound[1])) kept = kept.substr(0, kept.rfind(' '));
  return runtime.string(std::string(kept).append(end.bytes()));
}

Result<Value> wordcount(Runtime& runtime, const Value& input, const Arguments& given) {
  LATENTD_RETURN_IF_ERROR(bind("wordcount", given, {}).status());
  LATENTD_ASSIGN_OR_RETURN(const std::string text, to_text(runtime, input));
  std::int64_t words = 0;
  bool inside = false;
  for (const char32_t c : code_points(text)) {
    const bool is_word = c == '_' || is_alphanumeric(c);
    if (is_word && !inside) ++words;
    inside = is_word;
  }
  return Value::integer(words);
}

Result<Value> format(Runtime& runtime, const Value& input, const Arguments& given) {
  if (!given.keywords.empty()) return template_error("format with names is not supported");
  LATENTD_ASSIGN_OR_RETURN(const std::string text, to_text(runtime, input));
  return printf_format(runtime, text, Value::tuple(given.positional));
}

Result<Value> tojson(Runtime& runtime, const Value& input, const Arguments& given) {
  LATENTD_ASSIGN_OR_RETURN(
      const auto bound,
      bind("tojson", given, {{"ensure_ascii"}, {"indent"}, {"separators"}, {"sort_keys"}}));
  JsonStyle style;
  style.ensure_ascii = bound[0].has_value() && truthy(*bound[0]);
  style.sort_keys = bound[3].has_value() && truthy(*bound[3]);
  if (bound[1].has_value() && !bound[1]->is(Kind::kNone)) {
    style.item_separator = ",";
    if (bound[1]->is_string()) {
      style.indent = std::string(bound[1]->bytes());
    } else {
      LATENTD_ASSIGN_OR_RETURN(const std::int64_t width, integer_or("tojson", bound[1], 0));
      const std::size_t spaces = width < 0 ? 0 : static_cast<std::size_t>(width);
      LATENTD_RETURN_IF_ERROR(runtime.budget.make_string(spaces));
      style.indent = std::string(spaces, ' ');
    }
  }
  if (bound[2].has_value() && !bound[2]->is(Kind::kNone)) {
    LATENTD_ASSIGN_OR_RETURN(const ItemsPtr pair, iterate(runtime, *bound[2]));
    if (pair->size() != 2 || !(*pair)[0].is_string() || !(*pair)[1].is_string()) {
      return template_error("tojson needs two strings as separators");
    }
    style.item_separator = (*pair)[0].bytes();
    style.key_separator = (*pair)[1].bytes();
  }
  LATENTD_ASSIGN_OR_RETURN(std::string json, to_json(runtime, input, style));
  return runtime.string(std::move(json));
}

constexpr std::array<NamedFilter, 14> kFilters = {{{"capitalize", convert<to_capitalized>},
                                                   {"center", center},
                                                   {"format", format},
                                                   {"indent", indent},
                                                   {"lower", convert<to_lower>},
                                                   {"replace", replace},
                                                   {"safe", safe},
                                                   {"string", string},
                                                   {"title", convert<title_words>},
                                                   {"tojson", tojson},
                                                   {"trim", trim},
                                                   {"truncate", truncate},
                                                   {"upper", convert<to_upper>},
                                                   {"wordcount", wordcount}}};

}  // namespace

std::span<const NamedFilter> text_filters() { return kFilters; }

}  // namespace latentd::jinja

#include "server/text/template/python_text.h"

#include <spdlog/fmt/fmt.h>

#include <charconv>
#include <cmath>

#include "server/text/template/ast.h"
#include "server/text/template/unicode_text.h"
#include "server/text/utf8.h"

namespace latentd::jinja {

namespace {

// Deeper than lists and maps can be: only namespaces that hold one another get there.
constexpr int kMaxReprDepth = 200;

void append_escaped(char32_t c, std::string& out) {
  if (c < 0x100) {
    out += fmt::format("\\x{:02x}", static_cast<std::uint32_t>(c));
  } else if (c < 0x10000) {
    out += fmt::format("\\u{:04x}", static_cast<std::uint32_t>(c));
  } else {
    out += fmt::format("\\U{:08x}", static_cast<std::uint32_t>(c));
  }
}

void append_string_repr(std::string_view text, std::string& out) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const bool has_double = text.find('"') != std::string_view::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  out += quote;
  for (std::size_t at = 0, size = 0; at < text.size(); at += size) {
    const char32_t c = utf8::decode_valid(text.data() + at, size);
    if (c == static_cast<char32_t>(quote) || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (is_printable(c)) {
      out.append(text.substr(at, size));
    } else {
      append_escaped(c, out);
    }
  }
  out += quote;
}

class ReprWriter final {
 public:
  ReprWriter(Runtime& runtime, std::string& out) : runtime_(runtime), out_(out) {}

  Status write(const Value& value, int depth) {
    if (depth > kMaxReprDepth) return template_error("a value contains itself");
    const std::size_t before = out_.size();
    LATENTD_RETURN_IF_ERROR(write_one(value, depth));
    const bool nested = value.is(Kind::kSequence) || value.is(Kind::kMap);
    return runtime_.budget.grow_string(out_.size(), nested ? 0 : out_.size() - before);
  }

 private:
  Status write_one(const Value& value, int depth) {
    switch (value.kind()) {
      case Kind::kUndefined:
        out_ += "Undefined";
        return ok_status();
      case Kind::kNone:
        out_ += "None";
        return ok_status();
      case Kind::kBool:
        out_ += value.as_bool() ? "True" : "False";
        return ok_status();
      case Kind::kInt:
        out_ += fmt::format("{}", value.as_int());
        return ok_status();
      case Kind::kDouble:
        out_ += double_repr(value.as_double());
        return ok_status();
      case Kind::kString:
        append_string_repr(value.bytes(), out_);
        return ok_status();
      case Kind::kSequence:
        return sequence(*value.sequence(), depth);
      case Kind::kMap:
        return map(value.map(), depth);
      case Kind::kNamespace:
        return name_space(value.object(), depth);
      case Kind::kMacro:
        // A call block's body has no name.
        out_ += value.macro().node->name.empty()
                    ? "<Macro anonymous>"
                    : fmt::format("<Macro '{}'>", value.macro().node->name);
        return ok_status();
      case Kind::kLoop:
        out_ += fmt::format("<LoopContext {}/{}>", value.loop()->index + 1,
                            value.loop()->items->size());
        return ok_status();
      default:
        return template_error(fmt::format("a {} cannot be printed", type_name(value)));
    }
  }

  Status sequence(const Sequence& sequence, int depth) {
    switch (sequence.form) {
      case Sequence::Form::kList:
        return items(sequence.items, "[", "]", depth);
      case Sequence::Form::kTuple:
        return items(sequence.items, "(", sequence.items.size() == 1 ? ",)" : ")", depth);
      case Sequence::Form::kKeys:
        return items(sequence.items, "dict_keys([", "])", depth);
      case Sequence::Form::kValues:
        return items(sequence.items, "dict_values([", "])", depth);
      case Sequence::Form::kItems:
        return items(sequence.items, "dict_items([", "])", depth);
      case Sequence::Form::kRange:
        break;
    }
    out_ += fmt::format("range({}, {}", sequence.start, sequence.stop);
    if (sequence.step != 1) out_ += fmt::format(", {}", sequence.step);
    out_ += ')';
    return ok_status();
  }

  Status items(const std::vector<Value>& items, std::string_view open, std::string_view close,
               int depth) {
    out_ += open;
    bool first = true;
    for (const Value& item : items) {
      if (!first) out_ += ", ";
      first = false;
      LATENTD_RETURN_IF_ERROR(write(item, depth + 1));
    }
    out_ += close;
    return ok_status();
  }

  Status map(const Map& map, int depth) {
    out_ += '{';
    bool first = true;
    for (const auto& [key, value] : map.entries()) {
      if (!first) out_ += ", ";
      first = false;
      LATENTD_RETURN_IF_ERROR(write(key, depth + 1));
      out_ += ": ";
      LATENTD_RETURN_IF_ERROR(write(value, depth + 1));
    }
    out_ += '}';
    return ok_status();
  }

  Status name_space(const Namespace& object, int depth) {
    out_ += "<Namespace {";
    bool first = true;
    for (const auto& [name, value] : object.attributes) {
      if (!first) out_ += ", ";
      first = false;
      append_string_repr(name, out_);
      out_ += ": ";
      LATENTD_RETURN_IF_ERROR(write(value, depth + 1));
    }
    out_ += "}>";
    return ok_status();
  }

  Runtime& runtime_;
  std::string& out_;
};

}  // namespace

std::string double_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto written =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  std::string_view text(buffer, static_cast<std::size_t>(written.ptr - buffer));
  std::string out;
  if (text[0] == '-') {
    out = "-";
    text.remove_prefix(1);
  }
  const std::size_t e = text.find('e');
  int exponent = 0;
  const char* digits_of_exponent = text.data() + e + (text[e + 1] == '+' ? 2 : 1);
  std::from_chars(digits_of_exponent, text.data() + text.size(), exponent);
  std::string digits(1, text[0]);
  if (e > 2) digits += text.substr(2, e - 2);
  const int count = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    out += digits[0];
    if (count > 1) out += "." + digits.substr(1);
    return out + fmt::format("e{}{:02}", exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0) {
    return out + "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
  }
  if (count <= exponent + 1) {
    return out + digits + std::string(static_cast<std::size_t>(exponent + 1 - count), '0') + ".0";
  }
  const auto point = static_cast<std::size_t>(exponent + 1);
  return out + digits.substr(0, point) + "." + digits.substr(point);
}

Status append_repr(Runtime& runtime, const Value& value, std::string& out) {
  return ReprWriter(runtime, out).write(value, 0);
}

Status append_text(Runtime& runtime, const Value& value, std::string& out) {
  if (value.is_undefined()) return ok_status();
  if (!value.is_string()) return append_repr(runtime, value, out);
  out += value.bytes();
  return runtime.budget.grow_string(out.size(), value.bytes().size());
}

Result<std::string> to_text(Runtime& runtime, const Value& value) {
  std::string out;
  LATENTD_RETURN_IF_ERROR(append_text(runtime, value, out));
  return out;
}

std::string_view type_name(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kDouble:
      return "float";
    case Kind::kString:
      return "str";
    case Kind::kSequence: {
      constexpr std::string_view kNames[] = {"list",      "tuple",       "range",
                                             "dict_keys", "dict_values", "dict_items"};
      return kNames[static_cast<std::size_t>(value.sequence()->form)];
    }
    case Kind::kMap:
      return "dict";
    case Kind::kIterator:
      return "generator";
    case Kind::kLoop:
      return "LoopContext";
    case Kind::kMethod:
      return "method";
    case Kind::kNamespace:
      return "Namespace";
    case Kind::kMacro:
      return "Macro";
    case Kind::kFunction:
      return "function";
  }
  return "object";
}

}  // namespace latentd::jinja

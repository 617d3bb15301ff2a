// json.dumps.
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>

#include "server/text/template/operations.h"
#include "server/text/template/python_text.h"
#include "server/text/utf8.h"

namespace latentd::jinja {

namespace {

void append_unit(std::uint32_t unit, std::string& out) { out += fmt::format("\\u{:04x}", unit); }

void append_json_string(std::string_view text, bool ensure_ascii, std::string& out) {
  out += '"';
  for (std::size_t at = 0, size = 0; at < text.size(); at += size) {
    const char32_t c = utf8::decode_valid(text.data() + at, size);
    switch (c) {
      case '"':
        out += "\\\"";
        continue;
      case '\\':
        out += "\\\\";
        continue;
      case '\n':
        out += "\\n";
        continue;
      case '\r':
        out += "\\r";
        continue;
      case '\t':
        out += "\\t";
        continue;
      case '\b':
        out += "\\b";
        continue;
      case '\f':
        out += "\\f";
        continue;
      default:
        break;
    }
    // 0x7F is an escape only in json's ASCII form, as no character beyond it is written there.
    if (c < 0x20 || (ensure_ascii && c > 0x7E && c < 0x10000)) {
      append_unit(c, out);
    } else if (ensure_ascii && c >= 0x10000) {
      append_unit(0xD800 + ((c - 0x10000) >> 10), out);
      append_unit(0xDC00 + ((c - 0x10000) & 0x3FF), out);
    } else {
      out.append(text.substr(at, size));
    }
  }
  out += '"';
}

std::string json_double(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  return double_repr(value);
}

class JsonWriter final {
 public:
  JsonWriter(Runtime& runtime, const JsonStyle& style) : runtime_(runtime), style_(style) {}

  Status write(const Value& value, int level) {
    LATENTD_RETURN_IF_ERROR(runtime_.budget.spend(1));
    switch (value.kind()) {
      case Kind::kNone:
      case Kind::kBool:
      case Kind::kInt:
      case Kind::kDouble:
        out_ += scalar(value);
        return ok_status();
      case Kind::kString:
        return string(value.bytes());
      case Kind::kSequence:
        if (value.is_list_or_tuple()) return list(value.sequence()->items, level);
        break;
      case Kind::kMap:
        return map(value.map(), level);
      default:
        break;
    }
    return template_error(
        fmt::format("Object of type {} is not JSON serializable", type_name(value)));
  }

  std::string take() { return std::move(out_); }

 private:
  static std::string scalar(const Value& value) {
    switch (value.kind()) {
      case Kind::kBool:
        return value.as_bool() ? "true" : "false";
      case Kind::kInt:
        return fmt::format("{}", value.as_int());
      case Kind::kDouble:
        return json_double(value.as_double());
      default:
        return "null";
    }
  }

  Status new_line(int level) {
    if (!style_.indent.has_value()) return ok_status();
    const std::size_t added = 1 + static_cast<std::size_t>(level) * style_.indent->size();
    LATENTD_RETURN_IF_ERROR(runtime_.budget.grow_string(out_.size() + added, added));
    out_ += '\n';
    for (int i = 0; i < level; ++i) out_ += *style_.indent;
    return ok_status();
  }

  Status separator() {
    out_ += style_.item_separator;
    const std::size_t added = style_.item_separator.size() + style_.key_separator.size();
    return runtime_.budget.grow_string(out_.size(), added);
  }

  Status list(const std::vector<Value>& items, int level) {
    if (items.empty()) {
      out_ += "[]";
      return ok_status();
    }
    out_ += '[';
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i > 0) LATENTD_RETURN_IF_ERROR(separator());
      LATENTD_RETURN_IF_ERROR(new_line(level + 1));
      LATENTD_RETURN_IF_ERROR(write(items[i], level + 1));
    }
    LATENTD_RETURN_IF_ERROR(new_line(level));
    out_ += ']';
    return ok_status();
  }

  Status map(const Map& map, int level) {
    if (map.size() == 0) {
      out_ += "{}";
      return ok_status();
    }
    std::vector<const Map::Entry*> entries;
    for (const Map::Entry& entry : map.entries()) entries.push_back(&entry);
    if (style_.sort_keys) LATENTD_RETURN_IF_ERROR(sort(entries));
    out_ += '{';
    bool first = true;
    for (const Map::Entry* entry : entries) {
      if (!first) LATENTD_RETURN_IF_ERROR(separator());
      first = false;
      LATENTD_RETURN_IF_ERROR(new_line(level + 1));
      LATENTD_RETURN_IF_ERROR(key(entry->first));
      out_ += style_.key_separator;
      LATENTD_RETURN_IF_ERROR(write(entry->second, level + 1));
    }
    LATENTD_RETURN_IF_ERROR(new_line(level));
    out_ += '}';
    return ok_status();
  }

  Status key(const Value& key) {
    if (!key.is_string()) {
      out_ += '"' + scalar(key) + '"';
      return ok_status();
    }
    return string(key.bytes());
  }

  Status string(std::string_view text) {
    LATENTD_RETURN_IF_ERROR(runtime_.budget.grow_string(out_.size() + text.size(), text.size()));
    append_json_string(text, style_.ensure_ascii, out_);
    return ok_status();
  }

  Status sort(std::vector<const Map::Entry*>& entries) {
    Status failed;
    std::stable_sort(entries.begin(), entries.end(), [&](const Map::Entry* a, const Map::Entry* b) {
      Result<bool> less = less_than(runtime_, a->first, b->first);
      if (!less.ok() && failed.ok()) failed = less.status();
      return less.ok() && *less;
    });
    return failed;
  }

  Runtime& runtime_;
  const JsonStyle& style_;
  std::string out_;
};

}  // namespace

Result<std::string> to_json(Runtime& runtime, const Value& value, const JsonStyle& style) {
  JsonWriter writer(runtime, style);
  LATENTD_RETURN_IF_ERROR(writer.write(value, 0));
  return writer.take();
}

}  // namespace latentd::jinja

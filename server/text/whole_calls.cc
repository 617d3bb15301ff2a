#include "server/text/whole_calls.h"

#include <algorithm>
#include <string>
#include <utility>

#include "server/text/json_extent.h"
#include "server/text/marks.h"
#include "server/text/utf8.h"

namespace latentd {
namespace {

constexpr auto kNowhere = std::string_view::npos;
constexpr int kMaxDepth = 32;

bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80U;
}
bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Reads Python as far as calls need it. Every function is false, and the rest meaningless, once
// something does not fit.
class PythonReader final {
 public:
  explicit PythonReader(std::string_view text) : rest_(text) {}

  std::optional<std::vector<WholeCall>> read() {
    std::vector<WholeCall> calls;
    skip_word("```python");
    while (!at_end()) {
      WholeCall call;
      if (!name(call.name) || !take('(') || !arguments(call.arguments, 0)) return std::nullopt;
      calls.push_back(std::move(call));
      skip_word(";");
      if (skip_word("```") && !at_end()) return std::nullopt;
    }
    return calls;
  }

 private:
  void skip_space() {
    rest_.remove_prefix(std::min(rest_.find_first_not_of(kWhiteSpace), rest_.size()));
  }
  bool at_end() {
    skip_space();
    return rest_.empty();
  }
  bool skip_word(std::string_view word) {
    skip_space();
    if (!rest_.starts_with(word)) return false;
    rest_.remove_prefix(word.size());
    return true;
  }
  bool take(char c) { return skip_word({&c, 1}); }

  // Of letters, digits, dots and hyphens: tools may be called so.
  bool name(std::string& out) {
    skip_space();
    if (rest_.empty() || !is_name_start(rest_.front())) return false;
    const auto* const end = std::ranges::find_if_not(
        rest_, [](char c) { return is_name_start(c) || is_digit(c) || c == '.' || c == '-'; });
    const auto size = static_cast<std::size_t>(end - rest_.begin());
    out = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return true;
  }

  // KEY=VALUE, ... ) as an object; the parenthesis is open.
  bool arguments(std::string& out, int depth) {
    out += '{';
    bool first = true;
    while (!take(')')) {
      std::string key;
      if (!first && !take(',')) return false;
      if (!first && take(')')) break;
      if (!name(key) || !take('=')) return false;
      out += (first ? "" : ", ") + encode_json_string(key) + ": ";
      if (!value(out, depth + 1)) return false;
      first = false;
    }
    out += '}';
    return true;
  }

  bool value(std::string& out, int depth) {
    skip_space();
    if (rest_.empty() || depth > kMaxDepth) return false;
    const char next = rest_.front();
    if (next == '"' || next == '\'') return string(out);
    if (next == '[' || next == '(') return list(out, next == '[' ? ']' : ')', depth);
    if (next == '{') return dictionary(out, depth);
    if (is_digit(next) || next == '-' || next == '+' || next == '.') return number(out);
    return word(out, depth);
  }

  bool list(std::string& out, char close, int depth) {
    rest_.remove_prefix(1);
    out += '[';
    for (bool first = true; !take(close); first = false) {
      if (!first && !take(',')) return false;
      if (!first && take(close)) break;
      if (!first) out += ", ";
      if (!value(out, depth + 1)) return false;
    }
    out += ']';
    return true;
  }

  bool dictionary(std::string& out, int depth) {
    rest_.remove_prefix(1);
    out += '{';
    for (bool first = true; !take('}'); first = false) {
      if (!first && !take(',')) return false;
      if (!first && take('}')) break;
      if (!first) out += ", ";
      skip_space();
      const bool text = !rest_.empty() && (rest_.front() == '"' || rest_.front() == '\'');
      if (!text || !string(out) || !take(':')) return false;
      out += ": ";
      if (!value(out, depth + 1)) return false;
    }
    out += '}';
    return true;
  }

  bool number(std::string& out) {
    const std::size_t size = std::min(rest_.find_first_not_of("+-.0123456789eE_"), rest_.size());
    std::string text(rest_.substr(0, size));
    std::erase(text, '_');
    if (text.starts_with('+')) text.erase(0, 1);
    if (text.starts_with('.')) text.insert(0, "0");
    if (text.starts_with("-.")) text.insert(1, "0");
    if (text.ends_with('.')) text += '0';
    if (!is_json(text)) return false;
    rest_.remove_prefix(size);
    out += text;
    return true;
  }

  bool word(std::string& out, int depth) {
    std::string text;
    if (!name(text)) return false;
    if (text == "True" || text == "true") {
      out += "true";
    } else if (text == "False" || text == "false") {
      out += "false";
    } else if (text == "None" || text == "null") {
      out += "null";
    } else if (take('(')) {
      return arguments(out, depth + 1);
    } else {
      out += encode_json_string(text.substr(text.rfind('.') + 1));
    }
    return true;
  }

  bool string(std::string& out) {
    std::string text;
    const std::string quote(rest_.starts_with(std::string(3, rest_.front())) ? 3 : 1,
                            rest_.front());
    rest_.remove_prefix(quote.size());
    while (!rest_.starts_with(quote)) {
      if (rest_.empty()) return false;
      if (rest_.front() == '\\') {
        if (!escape(text)) return false;
      } else {
        text += rest_.front();
        rest_.remove_prefix(1);
      }
    }
    rest_.remove_prefix(quote.size());
    if (!utf8::valid(text)) return false;
    out += encode_json_string(text);
    return true;
  }

  bool escape(std::string& out) {
    if (rest_.size() < 2) return false;
    const char c = rest_[1];
    rest_.remove_prefix(2);
    constexpr std::string_view kLetters = "nrtbfav0\\'\"/";
    constexpr std::string_view kMeanings("\n\r\t\b\f\a\v\0\\'\"/", 12);
    if (const std::size_t at = kLetters.find(c); at != kNowhere) {
      out += kMeanings[at];
      return true;
    }
    if (c == '\n') return true;
    const std::size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits == 0) {  // Python keeps what it does not know
      out += {'\\', c};
      return true;
    }
    char32_t code = 0;
    if (!hexadecimal(digits, code)) return false;
    char32_t low = 0;
    if (code >= 0xD800 && code < 0xDC00 && rest_.starts_with("\\u")) {  // as JSON writes the others
      rest_.remove_prefix(2);
      if (!hexadecimal(4, low) || low < 0xDC00 || low > 0xDFFF) return false;
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return false;
    utf8::append(code, out);
    return true;
  }

  bool hexadecimal(std::size_t digits, char32_t& code) {
    if (rest_.size() < digits) return false;
    for (const char c : rest_.substr(0, digits)) {
      const bool letter = (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
      if (!is_digit(c) && !letter) return false;
      code = code * 16 + static_cast<char32_t>(letter ? (c | 0x20) - 'a' + 10 : c - '0');
    }
    rest_.remove_prefix(digits);
    return true;
  }

  std::string_view rest_;
};

// What stands before `mark`, which is taken too.
std::optional<std::string_view> take_until(std::string_view& rest, std::string_view mark) {
  const std::size_t at = rest.find(mark);
  if (at == kNowhere) return std::nullopt;
  const std::string_view taken = rest.substr(0, at);
  rest.remove_prefix(at + mark.size());
  return taken;
}

std::string_view without_frame(std::string_view value) {
  if (value.starts_with('\n')) value.remove_prefix(1);
  if (value.ends_with('\n')) value.remove_suffix(1);
  return value;
}

}  // namespace

std::optional<std::vector<WholeCall>> read_function_tags(std::string_view block,
                                                         const std::vector<ToolSignature>& tools) {
  if (!take_until(block, "<function=")) return std::nullopt;
  const auto name = take_until(block, ">");
  if (!name || name->empty() || name->find_first_of(kWhiteSpace) != kNowhere) return std::nullopt;
  const std::string_view body = take_until(block, "</function>").value_or(block);
  std::string arguments = "{";
  std::string_view rest = body;
  while (take_until(rest, "<parameter=")) {
    const auto key = take_until(rest, ">");
    if (!key) return std::nullopt;
    const std::string_view value = without_frame(take_until(rest, "</parameter>").value_or(rest));
    arguments += (arguments.size() > 1 ? ", " : "") + encode_json_string(*key) + ": ";
    const bool as_it_is = !is_string_parameter(tools, *name, *key) && is_json(value);
    arguments += as_it_is ? std::string(value) : encode_json_string(value);
  }
  return std::vector<WholeCall>{{std::string(*name), arguments + "}"}};
}

std::optional<std::vector<WholeCall>> read_python_calls(
    std::string_view block, const std::vector<ToolSignature>& /*tools*/) {
  return PythonReader(block).read();
}

}  // namespace latentd

#include "server/text/regex_parser.h"

#include <spdlog/fmt/fmt.h>

#include <optional>
#include <utility>

#include "server/text/utf8.h"

namespace latentd {

namespace {

using Kind = RegexNode::Kind;
using Greed = RegexNode::Greed;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

int hex_value(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool is_ascii_letter(char32_t c) { return (c >= U'a' && c <= U'z') || (c >= U'A' && c <= U'Z'); }

class Parser {
 public:
  explicit Parser(std::string_view pattern) : pattern_(pattern) {}

  Result<RegexNode> parse() {
    LATENTD_ASSIGN_OR_RETURN(RegexNode node, alternation(0));
    if (!done()) return malformed("unmatched )");
    return node;
  }

 private:
  bool done() const { return at_ >= pattern_.size(); }
  bool next_is(char c) const { return !done() && pattern_[at_] == c; }
  bool take(std::string_view token) {
    if (pattern_.substr(at_, token.size()) != token) return false;
    at_ += token.size();
    return true;
  }
  Status unsupported(std::string_view what) const {
    return {StatusCode::kUnimplemented, fmt::format("regex: {} at byte {}", what, at_)};
  }
  Status malformed(std::string_view what) const {
    return {StatusCode::kInvalidArgument, fmt::format("regex: {} at byte {}", what, at_)};
  }

  // One code point. REQUIRES: not done.
  char32_t take_code_point() {
    std::size_t size = 0;
    const char32_t c = utf8::decode_valid(pattern_.data() + at_, size);
    at_ += size;
    return c;
  }

  Result<RegexNode> alternation(int depth) {
    if (depth > kMaxRegexDepth) return unsupported("groups nested too deeply");
    RegexNode alternate;
    alternate.kind = Kind::kAlternate;
    do {
      LATENTD_ASSIGN_OR_RETURN(RegexNode branch, concatenation(depth));
      alternate.children.push_back(std::move(branch));
    } while (take("|"));
    if (alternate.children.size() == 1) return std::move(alternate.children[0]);
    return alternate;
  }

  Result<RegexNode> concatenation(int depth) {
    RegexNode concat;
    while (!done() && !next_is('|') && !next_is(')')) {
      if (++nodes_ > kMaxRegexNodes) return unsupported("a pattern of so many parts");
      const char32_t first = static_cast<unsigned char>(pattern_[at_]);
      LATENTD_ASSIGN_OR_RETURN(RegexNode node, atom(depth));
      LATENTD_ASSIGN_OR_RETURN(node, quantified(std::move(node)));
      LATENTD_RETURN_IF_ERROR(check_folding(first));
      concat.children.push_back(std::move(node));
    }
    return concat;
  }

  // Oniguruma folds some pairs of letters to one character beyond ASCII (ss to U+00DF, ff, fi, fl
  // and st to ligatures). We do not, so such a pair under (?i:) is refused.
  Status check_folding(char32_t first) {
    const bool letter = ignore_case_ && is_ascii_letter(first);
    const char c = letter ? static_cast<char>(first | 0x20) : '\0';
    const char before = std::exchange(previous_letter_, c);
    const auto pair = [&](char a, char b) { return before == a && c == b; };
    if (pair('s', 's') || pair('s', 't') || pair('f', 'f') || pair('f', 'i') || pair('f', 'l')) {
      return unsupported("a pair of letters under (?i:) that folds to a ligature");
    }
    return ok_status();
  }

  Result<RegexNode> atom(int depth) {
    if (take("(")) return group(depth);
    if (take("[")) {
      LATENTD_ASSIGN_OR_RETURN(CharSet set, char_class());
      return set_node(std::move(set));
    }
    if (next_is('\\')) {
      LATENTD_ASSIGN_OR_RETURN(CharSet set, escape());
      if (ignore_case_ && set.ranges().back().last >= 0x80) {
        return unsupported("a class beyond ASCII under (?i:)");
      }
      return set_node(std::move(set));
    }
    if (next_is('*') || next_is('+') || next_is('?')) return malformed("nothing to repeat");
    if (next_is('.')) return unsupported("the any-character dot");
    if (next_is('^') || next_is('$')) return unsupported("an anchor");
    if (next_is('{') || next_is('}')) return unsupported("a brace as a literal");
    const char32_t c = take_code_point();
    if (ignore_case_ && c >= 0x80) return unsupported("a letter beyond ASCII under (?i:)");
    return set_node(CharSet::of(c, c));
  }

  RegexNode set_node(CharSet set) const {
    RegexNode node;
    node.kind = Kind::kSet;
    node.set = std::move(set);
    if (ignore_case_) node.set.add_ascii_case();
    return node;
  }

  Result<RegexNode> group(int depth) {
    const bool outer_case = ignore_case_;
    std::optional<bool> negative_look;
    if (take("?:")) {
    } else if (take("?i:")) {
      ignore_case_ = true;
    } else if (take("?=")) {
      negative_look = false;
    } else if (take("?!")) {
      negative_look = true;
    } else if (next_is('?')) {
      return unsupported("this kind of group");
    }
    previous_letter_ = '\0';
    LATENTD_ASSIGN_OR_RETURN(RegexNode node, alternation(depth + 1));
    if (!take(")")) return malformed("missing )");
    ignore_case_ = outer_case;
    if (!negative_look.has_value()) return node;

    if (node.children.size() == 1 && node.kind == Kind::kConcat) {
      node = RegexNode(std::move(node.children[0]));
    }
    if (node.kind != Kind::kSet) return unsupported("a lookahead over more than one character");
    node.kind = Kind::kLookahead;
    node.negative = *negative_look;
    return node;
  }

  Result<RegexNode> quantified(RegexNode node) {
    RegexNode repeat;
    repeat.kind = Kind::kRepeat;
    bool braces = false;
    if (take("?")) {
      repeat.max = 1;
    } else if (take("*")) {
      repeat.max = -1;
    } else if (take("+")) {
      repeat.min = 1;
      repeat.max = -1;
    } else if (next_is('{')) {
      braces = true;
      LATENTD_RETURN_IF_ERROR(counts(repeat.min, repeat.max));
    } else {
      return node;
    }
    if (node.kind == Kind::kLookahead) return unsupported("a repeated lookahead");
    if (braces && (next_is('+') || next_is('?'))) return unsupported("a mark after {m,n}");
    if (take("?")) repeat.greed = Greed::kLazy;
    if (take("+")) repeat.greed = Greed::kPossessive;
    if (next_is('?') || next_is('*') || next_is('+') || next_is('{')) {
      return unsupported("a repeated repetition");
    }
    repeat.children.push_back(std::move(node));
    return repeat;
  }

  Status counts(int& min, int& max) {
    ++at_;  // {
    const std::optional<int> low = number();
    min = low.value_or(0);
    max = min;
    if (take(",")) {
      const std::optional<int> high = number();
      if (!low && !high) return malformed("{,}");
      max = high.value_or(-1);
    } else if (!low) {
      return malformed("a repetition without a count");
    }
    if (!take("}")) return malformed("a repetition without its }");
    if (min > kMaxRegexRepeat || max > kMaxRegexRepeat) {
      return unsupported(fmt::format("a repetition of more than {}", kMaxRegexRepeat));
    }
    if (max >= 0 && max < min) return malformed("a repetition of {m,n} with n < m");
    return ok_status();
  }

  std::optional<int> number() {
    if (done() || !is_digit(pattern_[at_])) return std::nullopt;
    int value = 0;
    while (!done() && is_digit(pattern_[at_])) {
      value = std::min(value * 10 + (pattern_[at_++] - '0'), kMaxRegexRepeat + 1);
    }
    return value;
  }

  // A set that a backslash begins, inside or outside of a class. REQUIRES: at a backslash.
  Result<CharSet> escape() {
    ++at_;
    if (done()) return malformed("a backslash at the end");
    if (next_is('p') || next_is('P')) return property();
    const char32_t c = take_code_point();
    switch (c) {
      case U's':
      case U'S':
      case U'd':
      case U'D': {
        const bool space = c == U's' || c == U'S';
        CharSet set = space ? CharSet::white_space() : CharSet::categories(*category_mask("Nd"));
        if (c == U'S' || c == U'D') set.negate();
        return set;
      }
      case U'n':
        return CharSet::of(U'\n', U'\n');
      case U'r':
        return CharSet::of(U'\r', U'\r');
      case U't':
        return CharSet::of(U'\t', U'\t');
      case U'f':
        return CharSet::of(U'\f', U'\f');
      case U'v':
        return CharSet::of(U'\v', U'\v');
      case U'u':
        return hex_code_point(4);
      case U'x':
        return hex_code_point(2);
      default:
        break;
    }
    if (is_ascii_letter(c) || (c >= U'0' && c <= U'9') || c >= 0x80) {
      at_ -= 1;
      return unsupported(fmt::format("the escape \\{}", pattern_[at_]));
    }
    return CharSet::of(c, c);
  }

  // \uHHHH, \xHH below 0x80 (above it Oniguruma means a byte) or \x{H...}.
  Result<CharSet> hex_code_point(int digits) {
    const bool braces = digits == 2 && take("{");
    char32_t value = 0;
    int count = 0;
    while (!done() && count < (braces ? 6 : digits) && hex_value(pattern_[at_]) >= 0) {
      value = value * 16 + static_cast<char32_t>(hex_value(pattern_[at_++]));
      ++count;
    }
    if (braces ? !take("}") || count == 0 : count != digits) return malformed("a hex escape");
    if (value > kMaxCodePoint) return malformed("a code point past U+10FFFF");
    if (digits == 2 && !braces && value >= 0x80) return unsupported("a byte beyond ASCII");
    return CharSet::of(value, value);
  }

  Result<CharSet> property() {
    bool negative = pattern_[at_++] == 'P';
    const std::size_t end = pattern_.find('}', at_);
    if (!take("{") || end == std::string_view::npos) return malformed("a property without {name}");
    if (take("^")) negative = !negative;
    const auto mask = category_mask(pattern_.substr(at_, end - at_));
    if (!mask) return unsupported("a property that is not a general category");
    at_ = end + 1;
    CharSet set = CharSet::categories(*mask);
    if (negative) set.negate();
    return set;
  }

  // After the [.
  Result<CharSet> char_class() {
    const bool negative = take("^");
    CharSet set;
    bool first = true;
    while (first || !next_is(']')) {
      if (done()) return malformed("a class without its ]");
      if (next_is('[') || next_is(']')) return unsupported("a bracket inside a class");
      if (pattern_.substr(at_, 2) == "&&") return unsupported("an intersection of classes");
      first = false;
      LATENTD_ASSIGN_OR_RETURN(CharSet item, class_item());
      // A minus that is the first or last of its class is itself.
      if (next_is('-') && at_ + 1 < pattern_.size() && pattern_[at_ + 1] != ']') {
        ++at_;
        if (next_is('[')) return unsupported("a bracket inside a class");
        LATENTD_ASSIGN_OR_RETURN(const CharSet high, class_item());
        LATENTD_ASSIGN_OR_RETURN(item, range(item, high));
      }
      set.add(item);
    }
    ++at_;  // ]
    if (ignore_case_) {
      if (!set.ranges().empty() && set.ranges().back().last >= 0x80) {
        return unsupported("a class beyond ASCII under (?i:)");
      }
      set.add_ascii_case();
    }
    if (negative) set.negate();
    if (set.empty()) return malformed("an empty class");
    return set;
  }

  Result<CharSet> class_item() {
    if (next_is('\\')) return escape();
    const char32_t c = take_code_point();
    return CharSet::of(c, c);
  }

  Result<CharSet> range(const CharSet& low, const CharSet& high) const {
    const auto single = [](const CharSet& set) {
      return set.ranges().size() == 1 && set.ranges()[0].first == set.ranges()[0].last;
    };
    if (!single(low) || !single(high)) return unsupported("a range between classes");
    const char32_t first = low.ranges()[0].first;
    const char32_t last = high.ranges()[0].first;
    if (first > last) return malformed("a range of a class that runs backwards");
    return CharSet::of(first, last);
  }

  std::string_view pattern_;
  std::size_t at_ = 0;
  int nodes_ = 0;
  bool ignore_case_ = false;
  char previous_letter_ = '\0';  // of the last atom under (?i:), lower case
};

}  // namespace

Result<RegexNode> parse_regex(std::string_view pattern) {
  if (!utf8::valid(pattern)) {
    return Status(StatusCode::kInvalidArgument, "regex: the pattern is not UTF-8");
  }
  return Parser(pattern).parse();
}

}  // namespace latentd

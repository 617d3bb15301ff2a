#include "server/text/schema/pattern_parser.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "server/text/utf8.h"

namespace latentd {

namespace {

using Kind = RegexNode::Kind;

constexpr std::string_view kPunctuation = "^$\\.*+?()[]{}|/-\"'`!#%&,:;<=>@~_ ";

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

CharSet word_set() {
  CharSet set = CharSet::of(U'0', U'9');
  set.add(CharSet::of(U'A', U'Z'));
  set.add(CharSet::of(U'a', U'z'));
  set.add(CharSet::of(U'_', U'_'));
  return set;
}

CharSet dot_set() {
  CharSet set = CharSet::of(U'\n', U'\n');
  set.add(CharSet::of(U'\r', U'\r'));
  set.add(CharSet::of(0x2028, 0x2029));
  set.negate();
  return set;
}

CharSet class_escape(char32_t c) {
  CharSet set;
  switch (c) {
    case U'd':
      return CharSet::of(U'0', U'9');
    case U'w':
      return word_set();
    case U's':
      set = CharSet::of(U'\t', U'\r');
      set.add(CharSet::of(U' ', U' '));
      return set;
    case U'D':
      set = CharSet::categories(*category_mask("N"));
      break;
    case U'W':
      set = word_set();
      for (const char* name : {"L", "N", "M"}) set.add(CharSet::categories(*category_mask(name)));
      break;
    default:  // S
      set = CharSet::white_space();
      set.add(CharSet::of(0x1C, 0x1F));
      set.add(CharSet::of(0xFEFF, 0xFEFF));
      break;
  }
  set.negate();
  return set;
}

class Parser {
 public:
  explicit Parser(std::string_view pattern) : pattern_(pattern) {}

  Result<std::vector<PatternBranch>> parse() {
    std::vector<PatternBranch> branches;
    do {
      PatternBranch branch;
      branch.from_start = take("^");
      LATENTD_ASSIGN_OR_RETURN(branch.node, concatenation(0));
      branch.to_end = take("$");
      branches.push_back(std::move(branch));
    } while (take("|"));
    if (!done()) return refuse(next_is(')') ? "unmatched )" : "an anchor inside");
    return branches;
  }

 private:
  bool done() const { return at_ >= pattern_.size(); }
  bool next_is(char c) const { return !done() && pattern_[at_] == c; }
  bool take(std::string_view token) {
    if (pattern_.substr(at_, token.size()) != token) return false;
    at_ += token.size();
    return true;
  }
  Status refuse(std::string_view what) const {
    return {StatusCode::kInvalidArgument, fmt::format("pattern: {} at byte {}", what, at_)};
  }
  char32_t take_code_point() {
    std::size_t size = 0;
    const char32_t c = utf8::decode_valid(pattern_.data() + at_, size);
    at_ += size;
    return c;
  }

  Result<RegexNode> alternation(int depth) {
    if (depth > kMaxRegexDepth) return refuse("groups nested too deeply");
    RegexNode alternate;
    alternate.kind = Kind::kAlternate;
    do {
      LATENTD_ASSIGN_OR_RETURN(RegexNode branch, concatenation(depth));
      alternate.children.push_back(std::move(branch));
    } while (take("|"));
    return alternate;
  }

  Result<RegexNode> concatenation(int depth) {
    RegexNode concat;
    while (!done() && !next_is('|') && !next_is(')') && !next_is('$')) {
      if (++nodes_ > kMaxRegexNodes) return refuse("too many parts");
      LATENTD_ASSIGN_OR_RETURN(RegexNode node, atom(depth));
      LATENTD_ASSIGN_OR_RETURN(node, quantified(std::move(node)));
      concat.children.push_back(std::move(node));
    }
    return concat;
  }

  static RegexNode set_node(CharSet set) {
    RegexNode node;
    node.kind = Kind::kSet;
    node.set = std::move(set);
    return node;
  }

  Result<RegexNode> atom(int depth) {
    if (take("(")) {
      if (next_is('?') && !take("?:")) return refuse("a look around or a named group");
      LATENTD_ASSIGN_OR_RETURN(RegexNode node, alternation(depth + 1));
      if (next_is('$')) return refuse("an anchor inside of a group");
      if (!take(")")) return refuse("missing )");
      return node;
    }
    if (take("[")) {
      LATENTD_ASSIGN_OR_RETURN(CharSet set, char_class());
      return set_node(std::move(set));
    }
    if (take(".")) return set_node(dot_set());
    if (next_is('\\')) {
      LATENTD_ASSIGN_OR_RETURN(CharSet set, escape(false));
      return set_node(std::move(set));
    }
    if (next_is('*') || next_is('+') || next_is('?') || next_is('{')) {
      return refuse("nothing to repeat");
    }
    if (next_is('^')) return refuse("an anchor inside");
    const char32_t c = take_code_point();
    return set_node(CharSet::of(c, c));
  }

  Result<RegexNode> quantified(RegexNode node) {
    RegexNode repeat;
    repeat.kind = Kind::kRepeat;
    if (take("?")) {
      repeat.max = 1;
    } else if (take("*")) {
      repeat.max = -1;
    } else if (take("+")) {
      repeat.min = 1;
      repeat.max = -1;
    } else if (take("{")) {
      LATENTD_RETURN_IF_ERROR(counts(repeat.min, repeat.max));
    } else {
      return node;
    }
    take("?");
    if (next_is('?') || next_is('*') || next_is('+') || next_is('{')) {
      return refuse("a repeated repetition");
    }
    repeat.children.push_back(std::move(node));
    return repeat;
  }

  Status counts(int& min, int& max) {
    const std::optional<int> low = number();
    if (!low) return refuse("a brace that is no {m,n}");
    min = *low;
    max = min;
    if (take(",")) max = number().value_or(-1);
    if (!take("}")) return refuse("a repetition without its }");
    if (min > kMaxPatternRepeat || max > kMaxPatternRepeat) {
      return refuse(fmt::format("a repetition of more than {}", kMaxPatternRepeat));
    }
    if (max >= 0 && max < min) return refuse("a repetition {m,n} with n < m");
    return ok_status();
  }

  std::optional<int> number() {
    std::optional<int> value;
    while (!done() && pattern_[at_] >= '0' && pattern_[at_] <= '9') {
      value = std::min(value.value_or(0) * 10 + (pattern_[at_++] - '0'), kMaxPatternRepeat + 1);
    }
    return value;
  }

  // REQUIRES: at a backslash.
  Result<CharSet> escape(bool in_class) {
    ++at_;
    if (done()) return refuse("a backslash at the end");
    const char32_t c = take_code_point();
    constexpr std::u32string_view kControls = U"tnrfv0";
    constexpr std::u32string_view kMeaning{U"\t\n\r\f\v\0", 6};
    if (std::u32string_view(U"dDwWsS").find(c) != std::u32string_view::npos) {
      return class_escape(c);
    }
    const std::size_t control = kControls.find(c);
    if (control != std::u32string_view::npos) {
      return CharSet::of(kMeaning[control], kMeaning[control]);
    }
    if (c == U'b' && in_class) return CharSet::of(U'\b', U'\b');
    if (c == U'x') return hex_code_point(2);
    if (c == U'u') return hex_code_point(4);
    if (c < 0x80 && kPunctuation.find(static_cast<char>(c)) != std::string_view::npos) {
      return CharSet::of(c, c);
    }
    --at_;
    return refuse("an escape that is not supported");
  }

  Result<CharSet> hex_code_point(int digits) {
    char32_t value = 0;
    for (int i = 0; i < digits; ++i) {
      const int digit = done() ? -1 : hex_value(pattern_[at_]);
      if (digit < 0) return refuse("a hex escape");
      value = value * 16 + static_cast<char32_t>(digit);
      ++at_;
    }
    if (value >= 0xD800 && value <= 0xDFFF) return refuse("a surrogate");
    return CharSet::of(value, value);
  }

  // After the [.
  Result<CharSet> char_class() {
    const bool negative = take("^");
    CharSet set;
    while (!next_is(']')) {
      if (done()) return refuse("a class without its ]");
      LATENTD_ASSIGN_OR_RETURN(CharSet item, class_item());
      if (next_is('-') && at_ + 1 < pattern_.size() && pattern_[at_ + 1] != ']') {
        ++at_;
        LATENTD_ASSIGN_OR_RETURN(const CharSet high, class_item());
        LATENTD_ASSIGN_OR_RETURN(item, range(item, high));
      }
      set.add(item);
    }
    ++at_;  // ]
    if (negative) set.negate();
    if (set.empty()) return refuse("an empty class");
    return set;
  }

  Result<CharSet> class_item() {
    if (done()) return refuse("a class without its ]");
    if (next_is('\\')) return escape(true);
    const char32_t c = take_code_point();
    return CharSet::of(c, c);
  }

  Result<CharSet> range(const CharSet& low, const CharSet& high) const {
    const auto single = [](const CharSet& set) {
      return set.ranges().size() == 1 && set.ranges()[0].first == set.ranges()[0].last;
    };
    if (!single(low) || !single(high)) return refuse("a range between classes");
    if (low.ranges()[0].first > high.ranges()[0].first) return refuse("a range backwards");
    return CharSet::of(low.ranges()[0].first, high.ranges()[0].first);
  }

  std::string_view pattern_;
  std::size_t at_ = 0;
  int nodes_ = 0;
};

}  // namespace

Result<std::vector<PatternBranch>> parse_pattern(std::string_view pattern) {
  return Parser(pattern).parse();
}

}  // namespace latentd

// The patterns of tokenizer.json, read into a tree.
//
// The dialect is the part of Oniguruma's Ruby syntax that pre-tokenizers are written in: literals,
// escapes, classes with ranges and \p{general category}, \s \S \d \D, groups (capturing or not),
// (?i:...) over ASCII, alternation, ? * + {m} {m,} {,n} {m,n} with lazy ? and possessive + forms,
// (?=x) and (?!x) over one character. The rest is refused by name: we match as the package does or
// not at all.
//
// Contract: pure function; the tree has at most kMaxRegexNodes nodes and kMaxRegexDepth levels.
#pragma once

#include <string_view>
#include <vector>

#include "base/result.h"
#include "server/text/char_set.h"

namespace latentd {

inline constexpr int kMaxRegexNodes = 4096;
inline constexpr int kMaxRegexDepth = 32;
inline constexpr int kMaxRegexRepeat = 64;  // of {m,n}

struct RegexNode {
  enum class Kind {
    kSet,        // one character of `set`
    kConcat,     // all children in order; none: the empty string
    kAlternate,  // the first child that leads to a match
    kRepeat,     // children[0], min to max times (max -1: any number)
    kLookahead,  // one character of `set` follows; `negative`: none does
  };
  enum class Greed { kGreedy, kLazy, kPossessive };

  Kind kind = Kind::kConcat;
  CharSet set;
  std::vector<RegexNode> children;
  int min = 0;
  int max = 0;
  Greed greed = Greed::kGreedy;
  bool negative = false;
};

// kUnimplemented (outside the dialect) or kInvalidArgument (malformed); both name the byte.
Result<RegexNode> parse_regex(std::string_view pattern);

}  // namespace latentd

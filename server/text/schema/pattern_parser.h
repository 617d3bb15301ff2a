// The patterns of JSON schemas ("pattern", and our own for "format"), read into a tree.
//
// The dialect is the regular part of ECMAScript's: literals, ., classes, \d \w \s and their
// complements, \t \n \r \f \v \0 \xHH \uHHHH and escaped punctuation, groups (capturing or not;
// what they capture is not used), alternation, ? * + {m} {m,} {m,n} (a lazy mark changes nothing),
// ^ as the first and $ as the last part of an alternative of the outermost level. Refused by name:
// look arounds, back references, word boundaries, \p, anchors elsewhere. Where ECMAScript and
// Python differ (digits, letters and spaces beyond ASCII, line ends) a class holds what both agree
// on, so that either of them accepts what we make.
//
// Contract: pure function; at most kMaxRegexNodes nodes and kMaxRegexDepth levels.
#pragma once

#include <string_view>
#include <vector>

#include "base/result.h"
#include "server/text/regex_parser.h"

namespace latentd {

inline constexpr int kMaxPatternRepeat = 1000;  // of {m,n}

struct PatternBranch {
  bool from_start = false;
  bool to_end = false;
  RegexNode node;
};

// The alternatives of the outermost level. kInvalidArgument; the message names the byte.
Result<std::vector<PatternBranch>> parse_pattern(std::string_view pattern);

}  // namespace latentd

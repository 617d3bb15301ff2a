// JSON numbers within bounds, as a byte automaton that compares decimals digit by digit.
//
// Spellings that are made (a narrower language than JSON's, so that a number ends):
//   integer            -?(0|[1-9][0-9]*), no "-0", at most kMaxNumberDigits digits (more when a
//                      bound has more)
//   number             the same with at most as many digits of fraction and an exponent of at most
//                      two digits
//   number with bounds no exponent, at most 15 digits in all: any two of these are different
//                      doubles in the same order, so a reader of doubles agrees with us
// Contract: pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "server/text/schema/dfa.h"

namespace latentd {

inline constexpr int kMaxNumberDigits = 20;
inline constexpr int kMaxBoundedDigits = 15;
inline constexpr int kMaxBoundDigits = 40;

// A decimal: no leading zeros in `whole`, no trailing ones in `fraction`; zero is not negative.
struct Decimal {
  bool negative = false;
  std::string whole;
  std::string fraction;
};

// kInvalidArgument when it has more than kMaxBoundDigits digits before or after the point.
Result<Decimal> parse_decimal(std::string_view json_number);

struct NumberBound {
  Decimal value;
  bool exclusive = false;
};

struct NumberRange {
  bool integer = false;
  std::optional<NumberBound> low;
  std::optional<NumberBound> high;
};

// Accepts nothing where no such number exists.
DraftDfa number_dfa(const NumberRange& range);

}  // namespace latentd

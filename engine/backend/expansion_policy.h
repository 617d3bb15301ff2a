// ExpansionPolicy: which rows of a step attend with keys and values expanded from the latents.
//
// Expanding costs a product for every key that the row sees, and makes each of its queries cheaper:
// the more keys are cached, the more new tokens it takes to be worth it. From where on is the
// device's matter (Backend::expansion).
//
// Contract: a plain value; pure functions.
#pragma once

#include <algorithm>

namespace latentd {

struct ExpansionPolicy {
  int least_tokens = 0;  // that a row must have; 0: none is expanded
  int most_tokens = 0;   // from here on every row is
  // In between, one token more for so many cached; 0: least_tokens counts.
  int cached_per_token = 0;

  static constexpr ExpansionPolicy from(int tokens) { return {tokens, tokens, 0}; }

  constexpr bool any() const { return least_tokens > 0; }
  // A row of `count` tokens after `cached` ones.
  constexpr bool expands(int count, int cached) const {
    if (!any()) return false;
    const int wanted = cached_per_token == 0
                           ? least_tokens
                           : std::clamp(cached / cached_per_token, least_tokens, most_tokens);
    return count >= wanted;
  }

  friend bool operator==(const ExpansionPolicy&, const ExpansionPolicy&) = default;
};

}  // namespace latentd

// TokenRun: the tokens of a sequence, its prompt and then what was generated, read page by page.
//
// Contract: a view; valid as long as both of its parts.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "base/ids.h"

namespace latentd {

struct TokenRun {
  std::span<const TokenId> prompt;
  std::span<const TokenId> generated;

  std::size_t size() const { return prompt.size() + generated.size(); }
  TokenId operator[](std::size_t position) const {
    return position < prompt.size() ? prompt[position] : generated[position - prompt.size()];
  }

  // Tokens [first, first + scratch.size()): a part of the run where they lie together, otherwise
  // their copy in `scratch`. REQUIRES: they are within the run.
  std::span<const TokenId> slice(std::size_t first, std::span<TokenId> scratch) const {
    const std::size_t count = scratch.size();
    if (first + count <= prompt.size()) return prompt.subspan(first, count);
    if (first >= prompt.size()) return generated.subspan(first - prompt.size(), count);
    const std::span<const TokenId> head = prompt.subspan(first);
    std::ranges::copy(head, scratch.begin());
    std::ranges::copy(generated.first(count - head.size()),
                      scratch.begin() + static_cast<std::ptrdiff_t>(head.size()));
    return scratch;
  }
};

}  // namespace latentd

// TokenConstraint: what a sequence may say next (a JSON schema, a grammar). One of the two
// interfaces of latentd; server/text implements it, tests have a double.
//
// Contract: owned by its Request and used by one thread at a time: the engine thread, once
// submitted. A sequence that is recomputed keeps its constraint: only newly sampled tokens are
// accepted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/ids.h"

namespace latentd {

class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;

  // Moves on by a sampled token. False when the token is not allowed here: the request then ends
  // with an error.
  virtual bool accept(TokenId token) = 0;

  // Sets bit t of `words` (bit t % 32 of word t / 32) for every token t allowed next and clears all
  // others. REQUIRES: words.size() * 32 >= the width of the logits.
  virtual void fill_mask(std::span<std::uint32_t> words) const = 0;

  // True when nothing more may follow: the sequence ends with finish reason stop.
  virtual bool complete() const = 0;
};

// Whether a mask as fill_mask fills it has a token that is not `banned`.
inline bool leaves_a_token(std::span<const std::uint32_t> mask, std::span<const TokenId> banned) {
  for (std::size_t word = 0; word < mask.size(); ++word) {
    std::uint32_t bits = mask[word];
    if (bits == 0) continue;
    for (const TokenId token : banned) {
      if (static_cast<std::size_t>(token) / 32 == word) bits &= ~(1U << (token % 32));
    }
    if (bits != 0) return true;
  }
  return false;
}

}  // namespace latentd

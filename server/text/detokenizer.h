// Detokenizer: the text of a token stream, as it grows, never half a character.
//
// Contract: what push() returned so far is always whole UTF-8 characters, and all of it followed by
// finish() is exactly Tokenizer::decode() of the same tokens. At most three bytes are held back.
// One stream, one thread; `tokenizer` outlives it.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "server/text/tokenizer.h"

namespace latentd {

class Detokenizer final {
 public:
  // `kept`: special tokens that are not skipped.
  Detokenizer(const Tokenizer& tokenizer, bool skip_special_tokens, std::vector<TokenId> kept = {})
      : tokenizer_(tokenizer), skip_special_tokens_(skip_special_tokens), kept_(std::move(kept)) {}

  // The text that `token` completes: perhaps none. Bytes that can no longer become a character are
  // U+FFFD, one for each maximal invalid part.
  std::string push(TokenId token);

  // The incomplete tail as U+FFFD, or nothing. The stream starts over afterwards.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_tokens_;
  std::vector<TokenId> kept_;
  std::string pending_;  // the bytes of a character that is not complete yet
};

}  // namespace latentd

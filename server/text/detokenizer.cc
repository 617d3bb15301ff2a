#include "server/text/detokenizer.h"

#include <algorithm>

#include "server/text/utf8.h"

namespace latentd {

std::string Detokenizer::push(TokenId token) {
  std::string out;
  if (skip_special_tokens_ && tokenizer_.is_special(token) &&
      std::ranges::find(kept_, token) == kept_.end()) {
    return out;
  }
  pending_.append(tokenizer_.token_bytes(token));
  const std::size_t incomplete = utf8::append_complete(pending_, out);
  pending_.erase(0, pending_.size() - incomplete);
  return out;
}

std::string Detokenizer::finish() {
  std::string out = utf8::replace_invalid(pending_);
  pending_.clear();
  return out;
}

}  // namespace latentd

// Words that a text must not contain, as a TokenConstraint around another or none.
//
// As vLLM's bad_words: a word is forbidden as the tokens that it becomes alone and as those behind
// a space; its last token is masked wherever the ones before it were just generated. Tokens of the
// prompt do not count. The same letters cut into other tokens stay possible.
//
// Where the words leave nothing of what the other constraint allows, that one wins.
//
// Contract: made on any thread; used as scheduler/token_constraint.h says.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "scheduler/token_constraint.h"
#include "server/text/tokenizer.h"

namespace latentd {

// `inner` may be null.
std::unique_ptr<TokenConstraint> forbid_words(const std::vector<std::string>& words,
                                              const Tokenizer& tokenizer,
                                              std::unique_ptr<TokenConstraint> inner);

}  // namespace latentd

// A serving model for tests of the doors: a tokenizer whose tokens are bytes, and no weights.
//
// Token t is the byte t for t < 256; 256 is <bos> and 257 is <eos>, both special. Text gets no
// special tokens.
#pragma once

#include <memory>
#include <string>

#include "server/serving_model.h"

namespace latentd::testing {

inline constexpr TokenId kBos = 256;
inline constexpr TokenId kEos = 257;
inline constexpr int kVocabSize = 258;

// The text of its tokenizer.json.
std::string byte_tokenizer_json();

// Context of 128 tokens, named "test/model" and "alias".
std::unique_ptr<ServingModel> make_test_model();

}  // namespace latentd::testing

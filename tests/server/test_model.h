// A serving model for tests of the doors: a tokenizer whose tokens are bytes, and no weights.
//
// Token t is the byte t for t < 256; 256 is <bos> and 257 is <eos>, both special. Text gets no
// special tokens.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "server/serving_model.h"

namespace latentd::testing {

inline constexpr TokenId kBos = 256;
inline constexpr TokenId kEos = 257;
inline constexpr int kVocabSize = 258;

// The text of its tokenizer.json.
std::string byte_tokenizer_json();

// Context of 128 tokens, named "test/model" and "alias".
std::unique_ptr<ServingModel> make_test_model();

// The chat format of a directory with this tokenizer_config.json and, if given,
// chat_template.jinja.
Result<std::unique_ptr<const ChatFormat>> load_chat_format(std::string_view tokenizer_config,
                                                           std::string_view template_file = "");

// A test model that converses: "[role]content" for each message, and "[assistant]" to go on.
std::unique_ptr<ServingModel> make_chat_model();

}  // namespace latentd::testing

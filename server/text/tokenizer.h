// Tokenizer: text to token ids and back, from a tokenizer.json (byte-level BPE), identical to the
// `tokenizers` package.
//
// Nothing of the file is executed: the pre-tokenizers' patterns are run by our own bounded matcher.
// Ids are those of the file's vocabulary and added tokens.
//
// Contract: immutable after load; every method may be called from any thread at once.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"

namespace latentd {

class Tokenizer {
 public:
  // kNotFound, kInvalidArgument (malformed), kUnimplemented (a model, normalizer, pre-tokenizer or
  // decoder that we do not run); all name the file and the JSON path.
  static Result<std::unique_ptr<Tokenizer>> load(const std::filesystem::path& tokenizer_json);
  static Result<std::unique_ptr<Tokenizer>> parse(std::string_view json);

  virtual ~Tokenizer() = default;

  // Ids of `text`. Invalid UTF-8 is read as U+FFFD, as the `tokenizers` package's callers do.
  // `add_special_tokens` applies the post-processor's template (BOS and the like); special tokens
  // written in the text become their ids.
  virtual std::vector<TokenId> encode(std::string_view text, bool add_special_tokens) const = 0;

  // The bytes that a token stands for (perhaps part of a character). Empty for an id that does not
  // exist.
  virtual std::string_view token_bytes(TokenId token) const = 0;
  virtual bool is_special(TokenId token) const = 0;
  virtual std::optional<TokenId> token_to_id(std::string_view token) const = 0;

  // Bytes of all tokens, joined and made valid UTF-8 (U+FFFD for what is not).
  virtual std::string decode(const std::vector<TokenId>& tokens,
                             bool skip_special_tokens) const = 0;

  virtual int vocab_size() const = 0;  // largest id + 1
};

}  // namespace latentd

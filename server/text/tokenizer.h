// Tokenizer: text to token ids and back, from a tokenizer.json (byte-level BPE), identical to the
// `tokenizers` package.
//
// Runs: model BPE over the byte-level alphabet (also ignore_merges); normalizer null or an empty
// Sequence; pre-tokenizers Split (Isolated, Removed), Digits, ByteLevel and Sequences of them;
// post-processors ByteLevel and TemplateProcessing; decoder ByteLevel; added tokens with all their
// flags. Nothing of the file is executed: its patterns are run by our own matcher in time linear in
// the text (server/text/regex.h). Ids are those of the file's vocabulary and added tokens.
//
// Contract: immutable after load; every method may be called from any thread at once. Views that
// are returned live as long as the tokenizer.
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

class Tokenizer final {
 public:
  // kNotFound, kInvalidArgument (malformed), kUnimplemented (a model, normalizer, pre-tokenizer or
  // decoder that we do not run); all name the file and the JSON path. At most 64 MiB of JSON.
  static Result<std::unique_ptr<Tokenizer>> load(const std::filesystem::path& tokenizer_json);
  static Result<std::unique_ptr<Tokenizer>> parse(std::string_view json);

  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Ids of `text`. Invalid UTF-8 is read as U+FFFD, one for each maximal invalid part, as
  // Python's errors="replace" does. `add_special_tokens` applies the post-processor's template (BOS
  // and the like); added tokens written in the text become their ids either way.
  std::vector<TokenId> encode(std::string_view text, bool add_special_tokens) const;

  // The bytes that a token stands for (perhaps part of a character). Empty for an id that does not
  // exist.
  std::string_view token_bytes(TokenId token) const;
  // The token as the file spells it (byte-level alphabet: "Ġthe"). Empty for an id that does not
  // exist.
  std::string_view token_text(TokenId token) const;
  bool is_special(TokenId token) const;
  // By the spelling of the file, added tokens included ("<|endoftext|>").
  std::optional<TokenId> token_to_id(std::string_view token) const;

  // Bytes of all tokens, joined and made valid UTF-8 (U+FFFD for what is not). Ids that do not
  // exist add nothing.
  std::string decode(const std::vector<TokenId>& tokens, bool skip_special_tokens) const;

  int vocab_size() const;  // largest id + 1

 private:
  class Impl;
  explicit Tokenizer(std::unique_ptr<const Impl> impl);

  std::unique_ptr<const Impl> impl_;
};

}  // namespace latentd

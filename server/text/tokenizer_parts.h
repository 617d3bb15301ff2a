// The parts of a tokenizer.json, built from its tree.
//
// Each function refuses what it does not run: kUnimplemented or kInvalidArgument, naming the JSON
// path. Contract: pure functions.
#pragma once

#include <vector>

#include "base/result.h"
#include "server/text/added_tokens.h"
#include "server/text/bpe.h"
#include "server/text/pre_tokenizer.h"
#include "server/text/tokenizer_json.h"
#include "server/text/vocabulary.h"

namespace latentd {

// What the post-processor puts around the ids of a text.
struct SpecialFrame {
  std::vector<TokenId> before;
  std::vector<TokenId> after;
};

Result<Vocabulary> build_vocabulary(const TokenizerJson& file);

// `vocabulary` must outlive the result.
Result<Bpe> build_bpe(const TokenizerJson& file, const Vocabulary& vocabulary);

// Reads added_tokens and gives those that are not in the vocabulary their ids there: those that the
// `tokenizers` package gives, which the file must agree with.
Result<std::vector<AddedToken>> build_added_tokens(const TokenizerJson& file,
                                                   Vocabulary& vocabulary);

Result<PreTokenizer> build_pre_tokenizer(const TokenizerJson& file);
Result<SpecialFrame> build_special_frame(const TokenizerJson& file, const Vocabulary& vocabulary);
Status check_normalizer(const TokenizerJson& file);
Status check_decoder(const TokenizerJson& file);

}  // namespace latentd

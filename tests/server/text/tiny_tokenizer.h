// A tokenizer.json for tests: a token for every byte, a few merges, a few added tokens.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "server/text/tokenizer.h"

namespace latentd::testing {

struct TinyTokenizer {
  // Pairs of spellings, lowest rank first; their results are added to the vocabulary in order.
  std::vector<std::pair<std::string, std::string>> merges;
  std::vector<std::string> added;  // whole JSON objects
  bool ignore_merges = false;
  std::vector<std::string> more_vocabulary;
  std::string normalizer = "null";
  std::string pre_tokenizer =
      R"({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true})";
  std::string post_processor = "null";
  std::string decoder = R"({"type": "ByteLevel"})";
  std::string more_model;  // further fields of the model, with a comma first

  std::string json() const;
  std::unique_ptr<Tokenizer> build() const;
};

// The JSON of an added token; `flags` are further fields, with a comma first.
std::string added_token(int id, const std::string& content, const std::string& flags = "");

// The id of the token for a byte in every TinyTokenizer.
inline TokenId id_of(unsigned char byte) { return byte; }
// Ids of the bytes of a text.
std::vector<TokenId> ids_of(std::string_view bytes);

// The id of the i-th merge, of the i-th added token when there are `merges` merges.
inline TokenId merge_id(int i) { return 256 + i; }

}  // namespace latentd::testing

#include "tests/server/text/tiny_tokenizer.h"

#include <spdlog/fmt/fmt.h>
#include <spdlog/fmt/ranges.h>

#include <algorithm>

#include "base/check.h"
#include "server/text/byte_alphabet.h"

namespace latentd::testing {

namespace {

std::string json_string(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

}  // namespace

std::string TinyTokenizer::json() const {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) {
    const char as_char = static_cast<char>(byte);
    tokens.push_back(spelling_of_bytes({&as_char, 1}));
  }
  std::vector<std::string> merge_lines;
  for (const auto& [left, right] : merges) {
    if (std::find(tokens.begin(), tokens.end(), left + right) == tokens.end()) {
      tokens.push_back(left + right);
    }
    merge_lines.push_back(fmt::format("[{}, {}]", json_string(left), json_string(right)));
  }
  tokens.insert(tokens.end(), more_vocabulary.begin(), more_vocabulary.end());
  std::vector<std::string> vocabulary;
  for (const std::string& token : tokens) {
    vocabulary.push_back(fmt::format("{}: {}", json_string(token), vocabulary.size()));
  }
  return fmt::format(
      R"({{"version": "1.0", "added_tokens": [{}], "normalizer": {}, "pre_tokenizer": {},
"post_processor": {}, "decoder": {}, "model": {{"type": "BPE", "dropout": null, "unk_token": null,
"ignore_merges": {}{}, "vocab": {{{}}}, "merges": [{}]}}}})",
      fmt::join(added, ", "), normalizer, pre_tokenizer, post_processor, decoder, ignore_merges,
      more_model, fmt::join(vocabulary, ", "), fmt::join(merge_lines, ", "));
}

std::unique_ptr<Tokenizer> TinyTokenizer::build() const {
  auto tokenizer = Tokenizer::parse(json());
  LATENTD_CHECK(tokenizer.ok(), "{}", tokenizer.status().to_string());
  return *std::move(tokenizer);
}

std::string added_token(int id, const std::string& content, const std::string& flags) {
  return fmt::format(R"({{"id": {}, "content": {}, "normalized": false{}}})", id,
                     json_string(content), flags);
}

std::vector<TokenId> ids_of(std::string_view bytes) {
  std::vector<TokenId> ids;
  for (const char c : bytes) ids.push_back(id_of(static_cast<unsigned char>(c)));
  return ids;
}

}  // namespace latentd::testing

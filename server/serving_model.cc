#include "server/serving_model.h"

#include <algorithm>

namespace latentd {

bool ServingModel::is_called(const std::string& model) const {
  return std::ranges::find(names, model) != names.end();
}

Result<std::string> render_chat(const ChatPrompt& chat, const ServingModel& model) {
  if (model.chat == nullptr) return invalid_argument("messages", model.why_no_chat);
  return model.chat->render(chat);
}

std::vector<TokenId> end_tokens_of(const ModelConfig& config, const GenerationDefaults& defaults) {
  std::vector<TokenId> tokens = config.eos_token_ids;
  tokens.insert(tokens.end(), defaults.eos_token_ids.begin(), defaults.eos_token_ids.end());
  std::ranges::sort(tokens);
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
  return tokens;
}

std::size_t longest_token_bytes(const Tokenizer& tokenizer) {
  std::size_t longest = 1;
  for (TokenId token = 0; token < tokenizer.vocab_size(); ++token) {
    longest = std::max(longest, tokenizer.token_bytes(token).size());
  }
  return longest;
}

}  // namespace latentd

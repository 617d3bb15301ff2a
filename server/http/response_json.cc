#include "server/http/response_json.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "server/text/utf8.h"

namespace latentd {

std::string dump(const OrderedJson& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::int64_t unix_seconds_now() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string token_string(const Tokenizer& tokenizer, TokenId token) {
  const std::string_view bytes = tokenizer.token_bytes(token);
  if (utf8::valid(bytes)) return std::string(bytes);
  constexpr char kHex[] = "0123456789abcdef";
  std::string out = "bytes:";
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
  }
  return out;
}

float clamp_logprob(float value) {
  return std::isfinite(value) ? std::max(value, -9999.0F) : -9999.0F;
}

OrderedJson finish_reason_json(const std::optional<Finish>& finish) {
  if (!finish) return nullptr;
  switch (finish->kind) {
    case FinishKind::kStop:
      return "stop";
    case FinishKind::kLength:
      return "length";
    case FinishKind::kCancelled:
      return "cancelled";
  }
  return nullptr;
}

OrderedJson stop_reason_json(const std::optional<Finish>& finish) {
  if (!finish) return nullptr;
  if (!finish->stop_string.empty()) return finish->stop_string;
  if (finish->stop_token >= 0) return finish->stop_token;
  return nullptr;
}

OrderedJson usage_json(const Usage& usage) {
  OrderedJson json;
  json["prompt_tokens"] = usage.prompt_tokens;
  json["completion_tokens"] = usage.completion_tokens;
  json["total_tokens"] = usage.prompt_tokens + usage.completion_tokens;
  json["prompt_tokens_details"] = {{"cached_tokens", usage.cached_tokens}};
  return json;
}

OrderedJson ids_json(const std::vector<TokenPiece>& pieces) {
  OrderedJson ids = OrderedJson::array();
  for (const TokenPiece& piece : pieces) ids.push_back(piece.token.token);
  return ids;
}

}  // namespace latentd

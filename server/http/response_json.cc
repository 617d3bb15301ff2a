#include "server/http/response_json.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "server/text/utf8.h"

namespace latentd {

namespace {

OrderedJson logprob_json(const Tokenizer& tokenizer, const TokenLogprob& token) {
  OrderedJson json;
  json["token"] = token_string(tokenizer, token.token);
  json["logprob"] = clamp_logprob(token.logprob);
  OrderedJson bytes = OrderedJson::array();
  for (const char c : tokenizer.token_bytes(token.token)) {
    bytes.push_back(static_cast<unsigned char>(c));
  }
  json["bytes"] = std::move(bytes);
  return json;
}

}  // namespace

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

OrderedJson finish_reason_json(const std::optional<Finish>& finish, bool has_calls) {
  if (!finish) return nullptr;
  switch (finish->kind) {
    case FinishKind::kStop:
      return has_calls ? "tool_calls" : "stop";
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

OrderedJson usage_json(const Usage& usage, bool with_cost) {
  OrderedJson json;
  json["prompt_tokens"] = usage.prompt_tokens;
  json["completion_tokens"] = usage.completion_tokens;
  json["total_tokens"] = usage.prompt_tokens + usage.completion_tokens;
  json["prompt_tokens_details"] = {{"cached_tokens", usage.cached_tokens}};
  if (!with_cost) return json;
  OrderedJson& cost = json["cost"];
  cost["queue_ms"] = usage.cost.queue_seconds * 1e3;
  cost["ttft_ms"] = usage.cost.first_token_seconds * 1e3;
  cost["prefill_ms"] = usage.cost.prefill_seconds * 1e3;
  cost["decode_ms"] = usage.cost.decode_seconds * 1e3;
  cost["cached_tokens"] = usage.cached_tokens;
  cost["steps"] = usage.cost.steps;
  cost["kv_byte_seconds"] = usage.cost.kv_byte_seconds;
  return json;
}

OrderedJson token_logprobs_json(const Tokenizer& tokenizer, const std::vector<TokenPiece>& pieces) {
  OrderedJson list = OrderedJson::array();
  for (const TokenPiece& piece : pieces) {
    OrderedJson token = logprob_json(tokenizer, piece.token);
    token["top_logprobs"] = OrderedJson::array();
    for (const TokenLogprob& entry : piece.top) {
      token["top_logprobs"].push_back(logprob_json(tokenizer, entry));
    }
    list.push_back(std::move(token));
  }
  return list;
}

OrderedJson prompt_logprobs_json(const Tokenizer& tokenizer,
                                 const std::vector<TokenPiece>& pieces) {
  OrderedJson list = OrderedJson::array({nullptr});
  for (const TokenPiece& piece : pieces) {
    OrderedJson entry = OrderedJson::object();
    const auto add = [&](const TokenLogprob& token, OrderedJson rank) {
      OrderedJson& one = entry[std::to_string(token.token)];
      one["logprob"] = clamp_logprob(token.logprob);
      one["rank"] = std::move(rank);
      one["decoded_token"] = token_string(tokenizer, token.token);
    };
    add(piece.token, nullptr);
    for (std::size_t i = 0; i < piece.top.size(); ++i) add(piece.top[i], i + 1);
    list.push_back(std::move(entry));
  }
  return list;
}

OrderedJson ids_json(const std::vector<TokenPiece>& pieces) {
  OrderedJson ids = OrderedJson::array();
  for (const TokenPiece& piece : pieces) ids.push_back(piece.token.token);
  return ids;
}

}  // namespace latentd

// The parts of answers that all routes to a generation share, as JSON with its keys in order.
//
// Contract: pure functions, but for the clock.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "server/generation.h"
#include "server/text/tokenizer.h"

namespace latentd {

using OrderedJson = nlohmann::ordered_json;

// One line; bytes that are no UTF-8 become U+FFFD.
std::string dump(const OrderedJson& json);

std::int64_t unix_seconds_now();

// A token as text; one that is no whole text as "bytes:\xe2\x82".
std::string token_string(const Tokenizer& tokenizer, TokenId token);

// JSON has no infinities; OpenAI's floor is -9999.
float clamp_logprob(float value);

// "stop", "length", "cancelled"; null while there is none. What would be "stop" is "tool_calls" of
// a text that calls some.
OrderedJson finish_reason_json(const std::optional<Finish>& finish, bool has_calls = false);

// What ended the choice, if it was something that the client asked for: as vLLM has it.
OrderedJson stop_reason_json(const std::optional<Finish>& finish);

// With `cost`: {"queue_ms", "ttft_ms", "prefill_ms", "decode_ms", "cached_tokens", "steps",
// "kv_byte_seconds"} as "cost".
OrderedJson usage_json(const Usage& usage, bool with_cost = false);

// [{"token", "logprob", "bytes", "top_logprobs"}, ...]
OrderedJson token_logprobs_json(const Tokenizer& tokenizer, const std::vector<TokenPiece>& pieces);

// As vLLM has it: null for the first token, then for each {"id": {"logprob", "rank",
// "decoded_token"}}, the token itself first. The rank is null where it is not known: beyond the
// most likely ones that were asked for.
OrderedJson prompt_logprobs_json(const Tokenizer& tokenizer, const std::vector<TokenPiece>& pieces);

OrderedJson ids_json(const std::vector<TokenPiece>& pieces);

}  // namespace latentd

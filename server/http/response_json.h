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

// "stop", "length", "cancelled"; null while there is none.
OrderedJson finish_reason_json(const std::optional<Finish>& finish);

// What ended the choice, if it was something that the client asked for: as vLLM has it.
OrderedJson stop_reason_json(const std::optional<Finish>& finish);

OrderedJson usage_json(const Usage& usage);

OrderedJson ids_json(const std::vector<TokenPiece>& pieces);

}  // namespace latentd

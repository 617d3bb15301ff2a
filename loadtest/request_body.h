// The bytes of a request to an OpenAI-compatible server.
#pragma once

#include <string>

#include "loadtest/plan.h"
#include "loadtest/scenario.h"
#include "loadtest/transport.h"

namespace latentd::loadtest {

// A JSON string literal.
std::string quote_json(const std::string& text);

// Header and body of `POST /v1/completions` (the prompt is token ids, so that its length is exact)
// or `/v1/chat/completions` (one user message of as many short words: the length is about right).
std::string http_request(const Target& target, const Tenant& tenant, const PlannedRequest& request);

}  // namespace latentd::loadtest

// A client's JSON as what templates compute with: keys keep the order in which they were sent,
// which is what a template shows of a tool's schema.
//
// Contract: pure functions.
#pragma once

#include <string>
#include <string_view>

#include "server/text/template/value.h"

namespace latentd {

// REQUIRES: parse_json took `text`. Integers beyond 64 bits with a sign become doubles.
jinja::Value value_of_json(std::string_view text);

// REQUIRES: `value` came from value_of_json, whole or as a part.
std::string json_of_value(const jinja::Value& value);

}  // namespace latentd

// Logging: one line an event, to stderr, as text or JSON.
//
// Contract: configure_logging once, before threads start; log_event from any thread. Values may
// come from clients: they are escaped. Prompts, outputs and keys are never given to it.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/options.h"

namespace latentd {

using LogFields = std::vector<std::pair<std::string, std::string>>;

void configure_logging(const std::string& level, LogFormat format);

// Text: `event key=value key="two words"`. JSON: an object with "event" and the fields.
void log_event(std::string_view event, const LogFields& fields);

}  // namespace latentd

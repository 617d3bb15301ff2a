// Work: what the body of a POST asks for, once it was read.
//
// Contract: read_work parses, renders, tokenises: on the text pool, never on a door's thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <variant>

#include "server/http/reply.h"
#include "server/http/response.h"
#include "server/http/router.h"

namespace latentd {

// A generation to launch, and what becomes of its updates.
struct GenerationWork {
  PreparedGeneration prepared;
  std::unique_ptr<Response> response;
};

// Or an answer that is there already.
using Work = std::variant<GenerationWork, HttpReply>;

// `request_id` becomes a part of the answer's id. Errors: of parsing, rendering, prepare.
// REQUIRES: takes_body(route).
Result<Work> read_work(Route route, std::string_view body, const ServingModel& model,
                       const std::string& request_id);

}  // namespace latentd

// Answers that need no engine: models, health, version, metrics, the console.
//
// Contract: any thread; never blocks for long.
#pragma once

#include "server/frontend.h"
#include "server/http/reply.h"
#include "server/http/router.h"

namespace latentd {

// REQUIRES: a known route that takes no body.
HttpReply answer_plain(const RouteMatch& match, Frontend& frontend, const Caller& caller);

}  // namespace latentd

// The console's page, style and script, which are part of the program.
//
// Sent with a policy that lets the page load and ask this server alone, and run nothing that stands
// in the page itself.
//
// Contract: any thread; never blocks.
#pragma once

#include "server/http/reply.h"
#include "server/http/router.h"

namespace latentd {

// REQUIRES: kConsole, kConsoleStyle, kConsoleScript or kConsoleIcon.
HttpReply console_asset(Route route);

}  // namespace latentd

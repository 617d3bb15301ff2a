// `latentd serve`: the life of the server, from listening to the last answer.
//
//   listen -> load -> ready -> (SIGTERM, SIGINT) -> not ready, still taking requests for the
//   propagation window -> finish what runs -> exit 0
//
// A second signal ends the process at once. An engine that fails ends it with exit code 1, after
// everybody in flight has heard.
#pragma once

#include "server/options.h"

namespace latentd {

// The exit code. REQUIRES: called once, from main, before other threads exist.
int serve(const ServeOptions& options);

}  // namespace latentd

// What the console shows: one JSON object of numbers that only grow (the page makes rates and
// percentiles of them), gauges, the map of the pages and the last requests.
//
//   time                     seconds of a clock that only goes forward, to make rates with
//   version, state           as /version and /readyz
//   model                    null while loading
//   cache                    kind of attention; bytes a token as it is and as full keys and values;
//   pages load                     running, waiting, counters pages                    counts by
//   state; map: runs such as "f120p3s2c9" (free, private, shared,
//                            cached) in the order of the pages' numbers; age_seconds of the map
//   latency                  histograms: le (the last, infinite, is left out) and cumulative counts
//   requests                 newest first; never a text
//
// Contract: any thread; never blocks for long.
#pragma once

#include "server/frontend.h"
#include "server/http/reply.h"

namespace latentd {

// `caller` sees the requests of its own tenant; a key of no tenant is the operator's and sees all.
HttpReply console_state(Frontend& frontend, const Caller& caller);

// "f120p3s2c9"
std::string page_map_text(const std::vector<PageRun>& runs);

}  // namespace latentd

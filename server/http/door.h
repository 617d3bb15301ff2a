// Door: what the connections of one HttpServer share.
//
// Contract: outlives its connections; any thread.
#pragma once

#include <algorithm>
#include <atomic>
#include <string>
#include <string_view>
#include <vector>

#include "server/frontend.h"
#include "server/http/http_server.h"
#include "server/http/router.h"

namespace latentd {

struct Door {
  Door(Frontend& frontend_in, HttpOptions options_in)
      : frontend(frontend_in), options(std::move(options_in)) {}

  Frontend& frontend;
  const HttpOptions options;
  std::atomic<int> connections{0};
  std::atomic<int> active{0};  // requests whose answers are not fully written
  std::atomic<bool> closing{false};

  // Answers end their connections from now on.
  bool last_answers() const {
    return closing || frontend.state() == ServerState::kDraining ||
           frontend.state() == ServerState::kFailed;
  }

  // The route of a target as far as this door has it.
  RouteMatch match(std::string_view target) const {
    RouteMatch found = match_route(target);
    if (options.routes == DoorRoutes::kOperations) {
      if (!is_operational(found.route)) found = RouteMatch();
      found.needs_key = false;
    } else if (options.routes == DoorRoutes::kAllButMetrics && found.route == Route::kMetrics) {
      found = RouteMatch();
    }
    return found;
  }

  // What Access-Control-Allow-Origin says to a page of `origin`; empty: nothing.
  std::string allowed_origin(std::string_view origin) const {
    if (origin.empty()) return "";
    for (const std::string& allowed : options.cors_origins) {
      if (allowed == "*" || allowed == origin) return allowed;
    }
    return "";
  }
};

}  // namespace latentd

// The router: which route a request is for, and whether it needs a key.
//
// Deny by default: whatever is not health, readiness or version needs the key when keys are set,
// unknown paths included; decided on the same decoded path that picks the route. The console's page
// is the same for everybody and asks for the key itself; what it shows needs one.
//
// Contract: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace latentd {

enum class Route : std::uint8_t {
  kUnknown,
  kCompletions,
  kChatCompletions,
  kResponses,
  kTokenize,
  kDetokenize,
  kModels,
  kModel,
  kOpenApi,
  kHealthz,  // alive
  kReadyz,   // takes requests
  kHealth,   // as readyz, under the name that vLLM has for it
  kVersion,
  kMetrics,
  kConsole,  // the page and what it is made of
  kConsoleStyle,
  kConsoleScript,
  kConsoleIcon,
  kConsoleState,  // what it shows
};

// Routes whose answer needs the body of the request and a place in the house.
inline bool takes_body(Route route) {
  return route == Route::kCompletions || route == Route::kChatCompletions ||
         route == Route::kResponses || route == Route::kTokenize || route == Route::kDetokenize;
}

// Routes for whoever runs the server.
inline bool is_operational(Route route) {
  return route == Route::kHealthz || route == Route::kReadyz || route == Route::kHealth ||
         route == Route::kVersion || route == Route::kMetrics;
}

// Routes to a generation.
inline bool makes_text(Route route) {
  return takes_body(route) && route != Route::kTokenize && route != Route::kDetokenize;
}

struct RouteMatch {
  Route route = Route::kUnknown;
  bool needs_key = true;
  std::string_view allowed;  // methods, as an Allow header has them
  std::string model;         // kModel: the id, slashes and all

  bool allows(std::string_view method) const;
};

// `target` as in the request line, in origin or absolute form; its query is ignored.
RouteMatch match_route(std::string_view target);

// The path of a target, without its query: for logs. Of "http://host/path" (RFC 9112 3.2.2: servers
// must accept it) "/path", whatever the host is.
std::string_view path_of(std::string_view target);

}  // namespace latentd

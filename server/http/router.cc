#include "server/http/router.h"

#include <algorithm>
#include <array>

#include "server/percent_decode.h"

namespace latentd {
namespace {

struct Entry {
  std::string_view path;
  Route route;
  bool needs_key;
  std::string_view allowed;
};

constexpr std::string_view kRead = "GET, HEAD";
constexpr std::array kRoutes = {
    Entry{"/v1/completions", Route::kCompletions, true, "POST"},
    Entry{"/v1/chat/completions", Route::kChatCompletions, true, "POST"},
    Entry{"/v1/responses", Route::kResponses, true, "POST"},
    Entry{"/tokenize", Route::kTokenize, true, "POST"},
    Entry{"/detokenize", Route::kDetokenize, true, "POST"},
    Entry{"/v1/models", Route::kModels, true, kRead},
    Entry{"/openapi.json", Route::kOpenApi, true, kRead},
    Entry{"/metrics", Route::kMetrics, true, kRead},
    Entry{"/healthz", Route::kHealthz, false, kRead},
    Entry{"/readyz", Route::kReadyz, false, kRead},
    Entry{"/health", Route::kHealth, false, kRead},
    Entry{"/version", Route::kVersion, false, kRead},
    Entry{"/", Route::kConsole, false, kRead},
    Entry{"/console/console.css", Route::kConsoleStyle, false, kRead},
    Entry{"/console/console.js", Route::kConsoleScript, false, kRead},
    Entry{"/console/icon.svg", Route::kConsoleIcon, false, kRead},
    Entry{"/console/state", Route::kConsoleState, true, kRead},
};
constexpr std::string_view kModelPrefix = "/v1/models/";

// Where the path of a target begins: after "http://host" or "https://host" in absolute form. A URI
// without a host is none (RFC 9110 4.2.1).
std::string_view after_host(std::string_view target) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!std::ranges::equal(target.substr(0, scheme.size()), scheme, [](char a, char b) {
          return (a >= 'A' && a <= 'Z' ? a + 32 : a) == b;
        })) {
      continue;
    }
    const std::size_t end = std::min(target.find_first_of("/?", scheme.size()), target.size());
    return end == scheme.size() ? target : target.substr(end);
  }
  return target;
}

}  // namespace

bool RouteMatch::allows(std::string_view method) const {
  std::string_view rest = allowed;
  while (!rest.empty()) {
    const std::size_t comma = rest.find(", ");
    if (rest.substr(0, comma) == method) return true;
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 2);
  }
  return false;
}

std::string_view path_of(std::string_view target) {
  const std::string_view rest = after_host(target);
  const std::string_view path = rest.substr(0, rest.find('?'));
  return path.empty() && rest.size() < target.size() ? "/" : path;
}

RouteMatch match_route(std::string_view target) {
  RouteMatch match;
  const auto path = percent_decode(path_of(target));
  if (!path) return match;
  for (const Entry& entry : kRoutes) {
    if (entry.path == *path) return {entry.route, entry.needs_key, entry.allowed, ""};
  }
  if (path->starts_with(kModelPrefix) && path->size() > kModelPrefix.size()) {
    return {Route::kModel, true, kRead, path->substr(kModelPrefix.size())};
  }
  return match;
}

}  // namespace latentd

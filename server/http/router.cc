#include "server/http/router.h"

#include <array>

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

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
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

std::string_view path_of(std::string_view target) { return target.substr(0, target.find('?')); }

std::optional<std::string> percent_decode(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const int high = hex_value(text[i + 1]);
    const int low = hex_value(text[i + 2]);
    if (high < 0 || low < 0 || (high == 0 && low == 0)) return std::nullopt;
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
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

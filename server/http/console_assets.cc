#include "server/http/console_assets.h"

#include "base/check.h"

namespace latentd {
namespace {

#include "console_files.inc"

constexpr const char* kPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

HttpReply asset(std::string_view body, const char* content_type) {
  HttpReply reply;
  reply.body = body;
  reply.content_type = content_type;
  reply.headers = {{"Content-Security-Policy", kPolicy},
                   {"X-Content-Type-Options", "nosniff"},
                   {"X-Frame-Options", "DENY"},
                   {"Referrer-Policy", "no-referrer"},
                   {"Cross-Origin-Opener-Policy", "same-origin"},
                   {"Cross-Origin-Resource-Policy", "same-origin"},
                   // Another version of the server has other files under the same names.
                   {"Cache-Control", "no-cache"}};
  return reply;
}

}  // namespace

HttpReply console_asset(Route route) {
  switch (route) {
    case Route::kConsoleStyle:
      return asset(console_css, "text/css; charset=utf-8");
    case Route::kConsoleScript:
      return asset(console_js, "text/javascript; charset=utf-8");
    case Route::kConsoleIcon:
      return asset(icon_svg, "image/svg+xml");
    default:
      LATENTD_CHECK(route == Route::kConsole, "no asset of the console");
      return asset(console_html, "text/html; charset=utf-8");
  }
}

}  // namespace latentd

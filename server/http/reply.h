// HttpReply: a whole answer, before it meets a socket; and the error object of OpenAI's API.
//
//   {"error": {"message", "type", "param", "code"}}
//
// Contract: plain values and pure functions.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "server/frontend.h"

namespace latentd {

struct HttpReply {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers;
};

// The status, type and code of an error that has come up behind the door.
//   kInvalidArgument 400, kOutOfRange 400 context_length_exceeded, kUnauthenticated 401, kNotFound
//   404 model_not_found, kResourceExhausted 429 with retry-after(-ms), kUnavailable 503, kDeadline
//   504, all others 500
HttpReply error_reply(const Status& status, int retry_after_ms = kRetryAfterMs);

// An error of HTTP itself: 404 of an unknown path, 405, 408, 411, 413, 415, 431 ...
HttpReply http_error(int status, std::string_view message);

// The error object alone, for the middle of a stream.
std::string error_object(const Status& status);

}  // namespace latentd

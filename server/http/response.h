// Response: what the updates of a generation become on the wire, whole or as server-sent events.
//
// Contract: one request, one thread.
#pragma once

#include <string>
#include <string_view>

#include "server/generation.h"

namespace latentd {

class Response {
 public:
  virtual ~Response() = default;

  virtual bool streams() const = 0;

  // Streaming: appends the events that `update` makes, the last of them and [DONE] included.
  virtual void append_events(const GenerationUpdate& update, std::string& out) = 0;

  // Streaming: appends what ends a stream that has failed.
  virtual void append_error(const Status& status, std::string& out);

  // Not streaming: collect every update, then take the body.
  virtual void collect(GenerationUpdate update) = 0;
  virtual std::string body() = 0;
};

// `data: {json}\n\n`
void append_sse(std::string& out, std::string_view json);
inline constexpr std::string_view kSseDone = "data: [DONE]\n\n";
inline constexpr std::string_view kSseKeepAlive = ": keep-alive\n\n";

}  // namespace latentd

// The exchange of one request with a body: from that to the last byte of its answer.
//
// While the answer is awaited the socket is watched: a client that closes its side, half or whole,
// has left, and its generation is cancelled.
//
// Contract: runs on the stream's strand.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <optional>
#include <string>

#include "server/http/door.h"
#include "server/http/door_stream.h"
#include "server/http/reply.h"
#include "server/http/router.h"
#include "server/trace_context.h"

namespace latentd {

// How an answer goes out on this connection.
struct AnswerStyle {
  unsigned version = 11;  // 10: no chunked encoding
  bool keep_alive = true;
  bool head = false;  // headers only
  std::string request_id;
  std::string cors_origin;            // what pages may read it; empty: none
  std::optional<TraceContext> trace;  // answered by a `traceresponse`
};

struct Outcome {
  int status = 200;
  bool open = false;  // the connection can take another request
  Usage usage;        // of generations
  std::string ahead;  // bytes of a next request that were read
};

// REQUIRES: takes_body(route).
boost::asio::awaitable<Outcome> run_exchange(DoorStream& stream, Door& door, Route route,
                                             IntakeSlot slot, std::string body, AnswerStyle style,
                                             TimePoint arrival);

// Writes a whole answer; whether that worked.
boost::asio::awaitable<bool> write_reply(DoorStream& stream, Door& door, HttpReply reply,
                                         AnswerStyle style);

}  // namespace latentd

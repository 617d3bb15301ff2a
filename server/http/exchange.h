// The exchange of one request with a body: from that to the last byte of its answer.
//
// While the answer is awaited the socket is watched: a client that closes its side, half or whole,
// has left, and its generation is cancelled.
//
// Contract: runs on the stream's strand.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <string>

#include "server/http/door.h"
#include "server/http/reply.h"
#include "server/http/router.h"

namespace latentd {

// How an answer goes out on this connection.
struct AnswerStyle {
  unsigned version = 11;  // 10: no chunked encoding
  bool keep_alive = true;
  bool head = false;  // headers only
  std::string request_id;
};

struct Outcome {
  int status = 200;
  bool open = false;  // the connection can take another request
  Usage usage;        // of generations
};

// REQUIRES: takes_body(route).
boost::asio::awaitable<Outcome> run_exchange(boost::beast::tcp_stream& stream, Door& door,
                                             Route route, IntakeSlot slot, std::string body,
                                             AnswerStyle style, TimePoint arrival);

// Writes a whole answer; whether that worked.
boost::asio::awaitable<bool> write_reply(boost::beast::tcp_stream& stream, HttpReply reply,
                                         AnswerStyle style);

}  // namespace latentd

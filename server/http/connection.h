// One HTTP connection: requests in, answers out, one after the other (pipelining is safe: the next
// request is not read before the answer is written).
//
// Contract: run is spawned on the socket's strand and owns the socket; it throws nothing and ends
// when the connection does.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/beast/core/tcp_stream.hpp>

#include "server/http/door.h"

namespace latentd {

boost::asio::awaitable<void> run_connection(boost::beast::tcp_stream tcp, Door& door);

}  // namespace latentd

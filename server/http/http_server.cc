#include "server/http/http_server.h"

#include <spdlog/spdlog.h>
#include <sys/resource.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <thread>
#include <vector>

#include "server/http/connection.h"
#include "server/http/door.h"

namespace latentd {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr int kThreads = 2;
// What the kernel keeps of a connection: it would let a reader that has stopped have megabytes.
constexpr int kSendBufferBytes = 128 << 10;

// Half of the file descriptors: the rest is for gRPC, weights and logs.
int max_connections() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  return static_cast<int>(std::min<rlim_t>(limit.rlim_cur / 2, 65536));
}

// A coroutine's last word: a library threw, or memory is short. The process goes on.
void report(const std::exception_ptr& error) {
  if (error == nullptr) return;
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& exception) {
    spdlog::error("http: a connection ended with: {}", exception.what());
  }
}

}  // namespace

struct HttpServer::State {
  State(Frontend& frontend, HttpOptions options) : door(frontend, std::move(options)) {}

  boost::system::error_code listen() {
    boost::system::error_code error;
    tcp::resolver resolver(io);
    const auto found =
        resolver.resolve(door.options.host, std::to_string(door.options.port),
                         tcp::resolver::passive | tcp::resolver::numeric_service, error);
    if (error) return error;
    const tcp::endpoint endpoint = *found.begin();
    acceptor.open(endpoint.protocol(), error);
    if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor.bind(endpoint, error);
    if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (!error) port = acceptor.local_endpoint(error).port();
    return error;
  }

  asio::awaitable<void> accept_all() {
    while (true) {
      auto [error, socket] = co_await acceptor.async_accept(asio::make_strand(io), kAwait);
      if (error == asio::error::operation_aborted || !acceptor.is_open()) co_return;
      if (error) {  // out of descriptors, most likely: let some close
        asio::steady_timer pause(io, std::chrono::milliseconds(50));
        co_await pause.async_wait(kAwait);
        continue;
      }
      if (door.connections >= limit) continue;  // closes it
      boost::system::error_code ignored;
      socket.set_option(tcp::no_delay(true), ignored);
      socket.set_option(asio::socket_base::keep_alive(true), ignored);
      socket.set_option(asio::socket_base::send_buffer_size(kSendBufferBytes), ignored);
      ++door.connections;
      const auto executor = socket.get_executor();
      asio::co_spawn(executor, run_connection(boost::beast::tcp_stream(std::move(socket)), door),
                     [this](const std::exception_ptr& failed) {
                       --door.connections;
                       report(failed);
                     });
    }
  }

  Door door;
  const int limit = max_connections();
  asio::io_context io{kThreads};
  asio::strand<asio::io_context::executor_type> accepting{asio::make_strand(io)};
  tcp::acceptor acceptor{accepting};
  asio::executor_work_guard<asio::io_context::executor_type> work{io.get_executor()};
  int port = 0;
  std::vector<std::thread> threads;
};

HttpServer::HttpServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

HttpServer::~HttpServer() { stop(); }

Result<std::unique_ptr<HttpServer>> HttpServer::start(Frontend& frontend, HttpOptions options) {
  auto state = std::make_unique<State>(frontend, std::move(options));
  if (const auto error = state->listen()) {
    const HttpOptions& wanted = state->door.options;
    return Status(StatusCode::kUnavailable, "cannot listen on " + wanted.host + ":" +
                                                std::to_string(wanted.port) +
                                                " for HTTP: " + error.message());
  }
  asio::co_spawn(state->accepting, state->accept_all(), report);
  for (int i = 0; i < kThreads; ++i) {
    state->threads.emplace_back([io = &state->io] { io->run(); });
  }
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(state)));
}

int HttpServer::port() const { return state_->port; }

int HttpServer::num_active() const { return state_->door.active; }

void HttpServer::stop_listening() {
  state_->door.closing = true;
  asio::post(state_->accepting, [state = state_.get()] {
    boost::system::error_code ignored;
    state->acceptor.close(ignored);
  });
}

void HttpServer::stop() {
  if (state_->threads.empty()) return;
  state_->io.stop();
  for (std::thread& thread : state_->threads) thread.join();
  state_->threads.clear();
}

}  // namespace latentd

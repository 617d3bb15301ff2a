// DoorStream: a connection of the HTTP door, encrypted or not: an AsyncStream of asio with the
// time limits of beast::tcp_stream.
//
// Contract: used on its strand; at most one read and one write at a time.
#pragma once

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <memory>
#include <optional>
#include <utility>

namespace latentd {

// Not final: asio derives from it to see that it is no executor.
class DoorStream {
 public:
  using executor_type = boost::beast::tcp_stream::executor_type;
  using Context = std::shared_ptr<boost::asio::ssl::context>;

  // Without a context: not encrypted.
  DoorStream(boost::beast::tcp_stream tcp, Context context)
      : tcp_(std::move(tcp)), context_(std::move(context)) {
    if (context_ != nullptr) tls_.emplace(tcp_, *context_);
  }
  DoorStream(const DoorStream&) = delete;
  DoorStream& operator=(const DoorStream&) = delete;

  bool encrypted() const { return tls_.has_value(); }
  executor_type get_executor() { return tcp_.get_executor(); }
  boost::asio::ip::tcp::socket& socket() { return tcp_.socket(); }
  void expires_after(std::chrono::steady_clock::duration limit) { tcp_.expires_after(limit); }
  void expires_never() { tcp_.expires_never(); }

  template <typename Buffers, typename Token>
  auto async_read_some(const Buffers& buffers, Token&& token) {
    if (tls_) return tls_->async_read_some(buffers, std::forward<Token>(token));
    return tcp_.async_read_some(buffers, std::forward<Token>(token));
  }

  template <typename Buffers, typename Token>
  auto async_write_some(const Buffers& buffers, Token&& token) {
    if (tls_) return tls_->async_write_some(buffers, std::forward<Token>(token));
    return tcp_.async_write_some(buffers, std::forward<Token>(token));
  }

  // Before anything is read; whether the client agreed. A plain stream always does.
  boost::asio::awaitable<bool> handshake(std::chrono::steady_clock::duration limit) {
    if (!tls_) co_return true;
    expires_after(limit);
    const auto [error] = co_await tls_->async_handshake(
        boost::asio::ssl::stream_base::server, boost::asio::as_tuple(boost::asio::use_awaitable));
    co_return !error.failed();
  }

  // Says that nothing more comes; the peer may still be sending.
  void shutdown_send() {
    boost::system::error_code ignored;
    tcp_.socket().shutdown(boost::asio::ip::tcp::socket::shutdown_send, ignored);
  }

  // Ends the connection; a TLS peer is told so, within `limit`.
  boost::asio::awaitable<void> close(std::chrono::steady_clock::duration limit) {
    if (tls_ && tcp_.socket().is_open()) {
      expires_after(limit);
      co_await tls_->async_shutdown(boost::asio::as_tuple(boost::asio::use_awaitable));
    }
    boost::system::error_code ignored;
    tcp_.socket().shutdown(boost::asio::ip::tcp::socket::shutdown_both, ignored);
  }

 private:
  boost::beast::tcp_stream tcp_;
  Context context_;
  std::optional<boost::asio::ssl::stream<boost::beast::tcp_stream&>> tls_;
};

}  // namespace latentd

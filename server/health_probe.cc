#include "server/health_probe.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <future>
#include <memory>
#include <optional>

namespace latentd {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;

std::string address_of(const std::string& host, int port) {
  const bool bare_ipv6 = host.find(':') != std::string::npos && !host.starts_with('[');
  return (bare_ipv6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

Status no_answer(const std::string& what) {
  return {StatusCode::kDeadlineExceeded, what + " did not answer in time"};
}

// One GET, step by step on one io_context, so that one clock bounds resolving, connecting and
// reading.
class HttpProbe final {
 public:
  explicit HttpProbe(const HealthOptions& options)
      : address_(address_of(options.host, options.http_port)),
        host_(options.host),
        port_(std::to_string(options.http_port)) {
    request_ = {http::verb::get, options.live ? "/healthz" : "/readyz", 11};
    request_.set(http::field::host, address_);
    request_.set(http::field::connection, "close");
  }

  Status run(Duration timeout) {
    resolver_.async_resolve(host_, port_, [this](auto error, auto endpoints) {
      if (failed(error)) return;
      stream_.async_connect(endpoints, [this](auto connect_error, const auto&) {
        if (!failed(connect_error)) ask();
      });
    });
    context_.run_for(timeout);
    const std::string what = address_ + std::string(request_.target());
    if (error_) {
      return {StatusCode::kUnavailable, "cannot ask " + what + ": " + error_.message()};
    }
    if (!answered_) return no_answer(what);
    if (response_.result_int() == 200) return ok_status();
    return {StatusCode::kUnavailable,
            what + " answered " + std::to_string(response_.result_int()) + ": " + response_.body()};
  }

 private:
  bool failed(const beast::error_code& error) {
    error_ = error;
    return static_cast<bool>(error);
  }

  void ask() {
    http::async_write(stream_, request_, [this](auto error, std::size_t) {
      if (failed(error)) return;
      http::async_read(stream_, buffer_, response_,
                       [this](auto read_error, std::size_t) { answered_ = !failed(read_error); });
    });
  }

  const std::string address_;
  const std::string host_;
  const std::string port_;
  asio::io_context context_;
  asio::ip::tcp::resolver resolver_{context_};
  beast::tcp_stream stream_{context_};
  http::request<http::empty_body> request_;
  http::response<http::string_body> response_;
  beast::flat_buffer buffer_{64 << 10};
  beast::error_code error_;
  bool answered_ = false;
};

// grpc.health.v1.HealthCheckResponse{status: SERVING} on the wire: field 1, varint 1. The request
// for the whole server is the empty message.
bool says_serving(const grpc::ByteBuffer& response) {
  grpc::Slice slice;
  if (!response.DumpToSingleSlice(&slice).ok()) return false;
  return slice.size() == 2 && slice.begin()[0] == 0x08 && slice.begin()[1] == 0x01;
}

Status probe_grpc(const HealthOptions& options) {
  const std::string address = address_of(options.host, options.grpc_port);
  grpc::GenericStub stub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::duration_cast<std::chrono::milliseconds>(options.timeout));
  const grpc::Slice whole_server;
  const grpc::ByteBuffer request(&whole_server, 1);  // a buffer of no slice is no message
  grpc::ByteBuffer response;
  std::promise<grpc::Status> done;
  stub.UnaryCall(&context, "/grpc.health.v1.Health/Check", {}, &request, &response,
                 [&done](const grpc::Status& status) { done.set_value(status); });
  const grpc::Status status = done.get_future().get();
  const std::string what = address + " over gRPC";
  if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) return no_answer(what);
  if (!status.ok()) {
    return {StatusCode::kUnavailable, "cannot ask " + what + ": " + status.error_message()};
  }
  if (says_serving(response)) return ok_status();
  return {StatusCode::kUnavailable, what + " answered that it does not serve"};
}

}  // namespace

Status probe_health(const HealthOptions& options) {
  return options.door == HealthDoor::kGrpc ? probe_grpc(options)
                                           : HttpProbe(options).run(options.timeout);
}

}  // namespace latentd

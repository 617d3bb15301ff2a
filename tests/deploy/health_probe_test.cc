#include "server/health_probe.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <string_view>
#include <thread>

namespace latentd {
namespace {

using ::testing::HasSubstr;

// Takes one connection on a port of its own and answers it with `reply`, or, when that is empty,
// keeps it open without a word until it is closed from the other side.
class OneAnswer final {
 public:
  explicit OneAnswer(std::string reply) : reply_(std::move(reply)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(listener_, 1), 0);
    EXPECT_EQ(::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~OneAnswer() {
    thread_.join();
    ::close(listener_);
  }
  OneAnswer(const OneAnswer&) = delete;
  OneAnswer& operator=(const OneAnswer&) = delete;

  int port() const { return port_; }
  const std::string& request() const { return request_; }  // after the probe has returned

 private:
  void serve() {
    const int connection = ::accept(listener_, nullptr, nullptr);
    char buffer[4096];
    for (ssize_t got = 1; got > 0;) {
      got = ::read(connection, buffer, sizeof(buffer));
      if (got > 0) request_.append(buffer, static_cast<std::size_t>(got));
      if (!reply_.empty() && request_.find("\r\n\r\n") != std::string::npos) break;
    }
    if (!reply_.empty()) {
      EXPECT_EQ(::write(connection, reply_.data(), reply_.size()),
                static_cast<ssize_t>(reply_.size()));
    }
    ::close(connection);
  }

  const std::string reply_;
  std::string request_;
  int listener_ = -1;
  int port_ = 0;
  std::thread thread_;
};

std::string reply(std::string_view status, std::string_view body) {
  return "HTTP/1.1 " + std::string(status) + "\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\n\r\n" + std::string(body);
}

HealthOptions at(int port) {
  HealthOptions options;
  options.http_port = port;
  options.grpc_port = port;
  options.timeout = std::chrono::seconds(10);
  return options;
}

// A port that nobody listens on: one that was just given back.
int closed_port() {
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  EXPECT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&address), size), 0);
  EXPECT_EQ(::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size), 0);
  ::close(listener);
  return ntohs(address.sin_port);
}

TEST(HealthProbe, AsksForReadinessOrLife) {
  for (const bool live : {false, true}) {
    std::string request;
    {
      OneAnswer server(reply("200 OK", R"({"status":"ready"})"));
      HealthOptions options = at(server.port());
      options.live = live;
      EXPECT_TRUE(probe_health(options).ok());
      request = server.request();
    }
    EXPECT_THAT(request, ::testing::StartsWith(live ? "GET /healthz " : "GET /readyz "));
  }
}

TEST(HealthProbe, ReportsWhatAServerThatIsNotReadySays) {
  OneAnswer server(reply("503 Service Unavailable", R"({"status":"draining"})"));
  const Status status = probe_health(at(server.port()));
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr("503"));
  EXPECT_THAT(status.message(), HasSubstr("draining"));
}

TEST(HealthProbe, GivesUpOnAServerThatSaysNothing) {
  OneAnswer server("");
  HealthOptions options = at(server.port());
  options.timeout = std::chrono::milliseconds(50);
  EXPECT_EQ(probe_health(options).code(), StatusCode::kDeadlineExceeded);
}

TEST(HealthProbe, FailsOnWhatIsNoHttpAnswer) {
  OneAnswer server("hello\r\n\r\n");
  EXPECT_EQ(probe_health(at(server.port())).code(), StatusCode::kUnavailable);
}

TEST(HealthProbe, FailsWhenNobodyListensAtEitherDoor) {
  HealthOptions options = at(closed_port());
  EXPECT_EQ(probe_health(options).code(), StatusCode::kUnavailable);
  options.door = HealthDoor::kGrpc;
  EXPECT_EQ(probe_health(options).code(), StatusCode::kUnavailable);
}

}  // namespace
}  // namespace latentd

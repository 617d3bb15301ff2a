// The HTTP transport: one io_context without locks, one read buffer for all streams.
//
// A connection waits for readability without a buffer of its own, so that thousands of quiet
// streams cost little. Connections are kept alive and used again; one that the server closed
// meanwhile is replaced once, as long as no byte of an answer came.
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <deque>
#include <memory>
#include <string>
#include <utility>

#include "loadtest/request_body.h"
#include "loadtest/stream_reader.h"
#include "loadtest/transport.h"

namespace latentd::loadtest {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr auto kSlowTick = std::chrono::milliseconds(200);
constexpr int kSlowReceiveBuffer = 4096;
constexpr std::size_t kReadBuffer = 64 << 10;
constexpr int kReadsAtOnce = 4;  // then others have their turn

struct Stream {
  explicit Stream(asio::io_context& io) : socket(io) {}

  tcp::socket socket;
  StreamReader reader;
  Progress progress;
  std::string out;                           // the request, until it is written
  std::unique_ptr<asio::steady_timer> slow;  // of a slow reader
  const PlannedRequest* request = nullptr;
  int pending = 0;         // handlers that will still be called
  std::uint32_t life = 0;  // of the request at hand: handlers of an earlier one are ignored
  bool active = false;
  bool reused = false;  // on a connection that served another request
  bool saw_error = false;
};

class HttpTransport final : public Transport {
 public:
  HttpTransport(const TransportContext& context, tcp::endpoint endpoint)
      : context_(context), endpoint_(std::move(endpoint)), io_(1), timer_(io_) {}

  ~HttpTransport() override {
    for (Stream& stream : streams_) close(stream);
    io_.poll();  // the handlers, while what they touch is alive
  }

  void start(std::size_t index, TimePoint intended) override {
    const PlannedRequest& request = context_.plan[index];
    Stream& stream = take_stream(request);
    stream.request = &request;
    stream.active = true;
    ++stream.life;
    stream.saw_error = false;
    stream.reader.reset();
    stream.progress = Progress();
    stream.progress.index = index;
    stream.progress.tenant = request.tenant;
    stream.out = http_request(context_.target, tenant_of(request), request);
    ++in_flight_;
    context_.recorder.on_sent(stream.progress, intended, steady_now());
    by_age_.push_back({&stream, stream.life});
    if (stream.reused) {
      write(stream);
    } else {
      connect(stream);
    }
  }

  void wait(TimePoint until) override {
    // A timer that goes off sooner will do; setting it anew wakes the loop for nothing.
    if (until < armed_ || armed_ <= steady_now()) {
      armed_ = until;
      timer_.expires_at(until);
      timer_.async_wait([](error_code) {});
    }
    if (io_.stopped()) io_.restart();
    io_.run_one();
    io_.poll();
    expire(steady_now());
  }

  void abort_all(const std::string& error) override {
    for (Stream& stream : streams_) {
      if (stream.active) finish(stream, error, false);
    }
    io_.poll();
  }

  std::size_t in_flight() const override { return in_flight_; }

 private:
  const Tenant& tenant_of(const PlannedRequest& request) const {
    return context_.scenario.tenants[static_cast<std::size_t>(request.tenant)];
  }

  Stream& take_stream(const PlannedRequest& request) {
    if (!request.slow_reader && !idle_.empty()) {
      Stream& stream = *idle_.back();
      idle_.pop_back();
      stream.reused = true;
      return stream;
    }
    Stream* stream = nullptr;
    if (!closed_.empty()) {
      stream = closed_.back();
      closed_.pop_back();
    } else {
      stream = &streams_.emplace_back(io_);
    }
    stream->reused = false;
    return *stream;
  }

  // Wraps a handler: counts it, and calls `use` only while its request is alive.
  template <typename Use>
  auto guarded(Stream& stream, Use use) {
    ++stream.pending;
    return [this, &stream, life = stream.life, use](const error_code& error, auto&&...) {
      --stream.pending;
      if (stream.active && stream.life == life) {
        use(error);
      } else {
        recycle(stream);
      }
    };
  }

  void connect(Stream& stream) {
    error_code error;
    stream.socket.open(endpoint_.protocol(), error);
    if (error) return finish(stream, "connect: " + error.message(), false);
    stream.socket.non_blocking(true, error);
    stream.socket.set_option(tcp::no_delay(true), error);
    if (stream.request->slow_reader) {
      stream.socket.set_option(asio::socket_base::receive_buffer_size(kSlowReceiveBuffer), error);
    }
    stream.socket.async_connect(endpoint_,
                                guarded(stream, [this, &stream](const error_code& failed) {
                                  if (failed)
                                    return finish(stream, "connect: " + failed.message(), false);
                                  write(stream);
                                }));
  }

  void write(Stream& stream) {
    asio::async_write(stream.socket, asio::buffer(stream.out),
                      guarded(stream, [this, &stream](const error_code& failed) {
                        if (failed) return fail(stream);
                        std::string().swap(stream.out);
                      }));
    await_bytes(stream);
  }

  void await_bytes(Stream& stream) {
    stream.socket.async_wait(tcp::socket::wait_read,
                             guarded(stream, [this, &stream](const error_code& failed) {
                               if (failed) return fail(stream);
                               read(stream);
                             }));
  }

  void read(Stream& stream) {
    const bool slow = stream.request->slow_reader;
    const std::size_t most =
        slow ? std::max<std::size_t>(
                   1, static_cast<std::size_t>(context_.target.slow_reader_bytes_per_s *
                                               to_seconds(kSlowTick)))
             : kReadBuffer;
    for (int i = 0; i < kReadsAtOnce; ++i) {
      error_code error;
      const std::size_t size = stream.socket.read_some(
          asio::buffer(buffer_.data(), std::min(most, buffer_.size())), error);
      if (error == asio::error::would_block || error == asio::error::try_again) break;
      if (error == asio::error::eof && stream.reader.complete_at_close()) {
        return end_of_response(stream);
      }
      if (error) return fail(stream);
      if (!take(stream, std::string_view(buffer_.data(), size))) return;
      if (slow) return pause(stream);
      if (size < most) break;
    }
    await_bytes(stream);
  }

  void pause(Stream& stream) {
    if (!stream.slow) stream.slow = std::make_unique<asio::steady_timer>(io_);
    stream.slow->expires_after(kSlowTick);
    stream.slow->async_wait(guarded(stream, [this, &stream](const error_code& failed) {
      if (!failed) await_bytes(stream);
    }));
  }

  // False when the request ended with these bytes.
  bool take(Stream& stream, std::string_view bytes) {
    const TimePoint now = steady_now();
    bool hang_up = false;
    const bool valid = stream.reader.feed(bytes, [&](std::string_view data) {
      if (!hang_up) hang_up = !take_event(stream, scan_event(data, stream.progress.hash), now);
    });
    if (hang_up) {
      finish(stream, "cancelled", false);
      return false;
    }
    if (!valid) {
      finish(stream, "protocol", false);
      return false;
    }
    if (!stream.reader.complete()) return true;
    end_of_response(stream);
    return false;
  }

  // False when it is time to hang up.
  bool take_event(Stream& stream, const EventFacts& facts, TimePoint now) {
    Progress& progress = stream.progress;
    stream.saw_error = stream.saw_error || facts.error;
    progress.finished = progress.finished || facts.finished;
    progress.at_length = progress.at_length || facts.at_length;
    progress.hash = facts.hash;
    if (facts.prompt_tokens >= 0) progress.prompt_tokens = facts.prompt_tokens;
    if (facts.completion_tokens >= 0) progress.completion_tokens = facts.completion_tokens;
    if (facts.cached_tokens >= 0) progress.cached_tokens = facts.cached_tokens;
    if (facts.has_text) {
      progress.listed_ids = progress.listed_ids || facts.token_ids > 0;
      // Ids are exact; a usage in every event (continuous_usage_stats) is as good.
      const int said =
          facts.token_ids > 0 ? facts.token_ids : facts.completion_tokens - progress.event_tokens;
      context_.recorder.on_tokens(progress, std::max(said, 1), now);
    }
    const int limit = stream.request->cancel_after;
    return limit < 0 || progress.event_tokens <= limit;
  }

  void end_of_response(Stream& stream) {
    const int status = stream.reader.status();
    std::string error;
    if (status != 200) {
      error = fmt::format("http {}", status);
    } else if (stream.saw_error || stream.reader.saw_error_line()) {
      error = "stream error";
    } else if (!stream.progress.finished) {  // not every server sends [DONE]
      error = "cut short";
    }
    finish(stream, std::move(error), stream.reader.complete() && stream.reader.keep_alive());
  }

  // The connection broke. One that the server had closed between requests deserves another try.
  void fail(Stream& stream) {
    if (!stream.reused || stream.reader.started()) return finish(stream, "closed", false);
    close(stream);
    stream.reused = false;
    stream.out = http_request(context_.target, tenant_of(*stream.request), *stream.request);
    ++stream.life;
    by_age_.push_back({&stream, stream.life});
    connect(stream);
  }

  void finish(Stream& stream, std::string error, bool keep) {
    const bool exact = context_.target.ignore_eos && context_.target.api == Api::kCompletions;
    context_.recorder.on_end(stream.progress, std::move(error), stream.request->max_tokens, exact,
                             steady_now());
    finished_.push_back(stream.progress.index);
    stream.active = false;
    --in_flight_;
    std::string().swap(stream.out);
    // A write still under way would mix with the next request.
    if (keep && stream.pending == 0 && !stream.request->slow_reader) {
      idle_.push_back(&stream);
    } else {
      close(stream);
      recycle(stream);
    }
  }

  static void close(Stream& stream) {
    error_code ignored;
    stream.socket.close(ignored);
    if (stream.slow) stream.slow->cancel();
  }

  void recycle(Stream& stream) {
    if (!stream.active && stream.pending == 0 && !stream.socket.is_open()) {
      closed_.push_back(&stream);
    }
  }

  void expire(TimePoint now) {
    const auto limit = std::chrono::duration_cast<Duration>(
        std::chrono::duration<double>(context_.target.timeout_s));
    while (!by_age_.empty()) {
      const auto [stream, life] = by_age_.front();
      const bool alive = stream->active && stream->life == life;
      if (alive && now - stream->progress.sent < limit) return;
      by_age_.pop_front();
      if (alive) finish(*stream, "timeout", false);
    }
  }

  const TransportContext context_;
  const tcp::endpoint endpoint_;
  asio::io_context io_;
  asio::steady_timer timer_;
  TimePoint armed_{};
  std::deque<Stream> streams_;  // addresses stay
  std::vector<Stream*> idle_;   // connected, without a request
  std::vector<Stream*> closed_;
  std::deque<std::pair<Stream*, std::uint32_t>> by_age_;
  std::size_t in_flight_ = 0;
  std::array<char, kReadBuffer> buffer_;
};

}  // namespace

Result<std::unique_ptr<Transport>> make_http_transport(const TransportContext& context) {
  try {
    asio::io_context io;
    error_code error;
    tcp::resolver resolver(io);
    const auto found =
        resolver.resolve(context.target.host, std::to_string(context.target.port), error);
    if (error || found.empty()) {
      return Status(StatusCode::kUnavailable,
                    "no address for " + context.target.host + ": " + error.message());
    }
    return std::unique_ptr<Transport>(
        std::make_unique<HttpTransport>(context, found.begin()->endpoint()));
  } catch (const std::exception& failed) {
    return Status(StatusCode::kInternal, failed.what());
  }
}

}  // namespace latentd::loadtest

#include "server/http/connection.h"

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <memory>
#include <optional>

#include "server/access_log.h"
#include "server/http/door_stream.h"
#include "server/http/exchange.h"
#include "server/http/plain_routes.h"
#include "server/http/router.h"
#include "server/http/tls_context.h"
#include "server/wall_clock.h"

namespace latentd {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr auto kHeaderLimit = std::chrono::seconds(10);
constexpr auto kIdleLimit = std::chrono::seconds(75);
constexpr auto kLingerLimit = std::chrono::seconds(2);
constexpr std::size_t kLingerBytes = std::size_t{1} << 20;
constexpr std::uint32_t kMaxHeaderBytes = 16 << 10;
constexpr std::ptrdiff_t kMaxHeaderLines = 100;

using Parser = http::request_parser<http::string_body>;

// Counts a request until its answer is written.
class ActiveRequest final {
 public:
  explicit ActiveRequest(Door& door) : door_(door) { ++door_.active; }
  ~ActiveRequest() { --door_.active; }
  ActiveRequest(const ActiveRequest&) = delete;
  ActiveRequest& operator=(const ActiveRequest&) = delete;

 private:
  Door& door_;
};

// A time limit of reading that leaves the connection open, so that it can be answered: the stream's
// own would close it. On the connection's strand.
class ReadLimit final {
 public:
  ReadLimit(const asio::any_io_executor& strand, DoorStream& stream, Duration duration)
      : state_(std::make_shared<State>(State{asio::steady_timer(strand), stream})) {
    arm(state_, duration);
  }

  // What became of the reading.
  boost::system::error_code end(boost::system::error_code error) {
    state_->over = true;
    state_->timer.cancel();
    return state_->is_late && error ? beast::error::timeout : error;
  }

 private:
  static constexpr Duration kAgain = std::chrono::milliseconds(100);

  // Outlives this: the timer may have rung and not been heard yet.
  struct State {
    asio::steady_timer timer;
    DoorStream& stream;
    bool over = false;
    bool is_late = false;
  };

  static void arm(const std::shared_ptr<State>& state, Duration duration) {
    state->timer.expires_after(duration);
    state->timer.async_wait([state](const boost::system::error_code& error) {
      if (error || state->over) return;
      state->is_late = true;
      boost::system::error_code ignored;
      state->stream.socket().cancel(ignored);
      arm(state, kAgain);  // a read may have been about to go on
    });
  }

  std::shared_ptr<State> state_;
};

HttpReply too_large(const RequestLimits& limits) {
  return http_error(413,
                    "the body is larger than " + std::to_string(limits.max_body_bytes) + " bytes");
}

// What a request that could not be read deserves. None: nothing can be said.
std::optional<HttpReply> read_error(const boost::system::error_code& error, const char* what,
                                    const RequestLimits& limits) {
  if (error == beast::error::timeout)
    return http_error(408, std::string(what) + " came too slowly");
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return http_error(431, "the header is larger than 16384 bytes");
  }
  if (error == http::error::body_limit) {
    return too_large(limits);
  }
  if (error == http::error::end_of_stream || error == http::error::partial_message) {
    return std::nullopt;
  }
  if (error.category() == make_error_code(http::error::bad_method).category()) {
    return http_error(400, "malformed HTTP: " + error.message());
  }
  return std::nullopt;
}

bool is_json(std::string_view content_type) {
  content_type = content_type.substr(0, content_type.find(';'));
  while (content_type.ends_with(' ')) content_type.remove_suffix(1);
  return beast::iequals(content_type, "application/json");
}

// What a browser hears that asks whether a page of an allowed origin may make its request.
HttpReply preflight_reply() {
  HttpReply reply;
  reply.status = 204;
  reply.headers = {{"Access-Control-Allow-Methods", "GET, HEAD, POST"},
                   {"Access-Control-Allow-Headers", "*, Authorization"},
                   {"Access-Control-Max-Age", "600"}};
  return reply;
}

class Connection final {
 public:
  Connection(beast::tcp_stream tcp, Door& door)
      : stream_(std::move(tcp),
                door.options.tls == nullptr ? nullptr : door.options.tls->current()),
        door_(door) {}

  asio::awaitable<void> run() {
    bool first = true;
    const bool agreed = co_await stream_.handshake(kHeaderLimit);
    if (!agreed) co_return;
    while (co_await await_request(std::exchange(first, false))) {
      const ActiveRequest active(door_);
      const bool open = co_await serve_one();
      if (!open) break;
    }
    co_await stream_.close(kLingerLimit);
  }

 private:
  const RequestLimits& limits() const { return door_.frontend.limits(); }

  asio::awaitable<ReadLimit> begin_limit(Duration duration) {
    stream_.expires_never();
    co_return ReadLimit(co_await asio::this_coro::executor, stream_, duration);
  }

  // Until the first byte of a request is there. The time between requests is no request's.
  asio::awaitable<bool> await_request(bool first) {
    if (buffer_.size() > 0) co_return true;
    if (!first && door_.last_answers()) co_return false;
    stream_.expires_after(first ? kHeaderLimit : kIdleLimit);
    const auto [error, size] = co_await stream_.async_read_some(buffer_.prepare(4096), kAwait);
    if (error) co_return false;
    buffer_.commit(size);
    co_return true;
  }

  // True when the connection can take another request.
  asio::awaitable<bool> serve_one() {
    arrival_ = steady_now();
    parser_.emplace();
    parser_->header_limit(kMaxHeaderBytes);
    parser_->body_limit(boost::none);  // checked below, where it can be answered
    auto limit = co_await begin_limit(kHeaderLimit);
    const auto [failed, size] =
        co_await http::async_read_header(stream_, buffer_, *parser_, kAwait);
    const boost::system::error_code error = limit.end(failed);
    read_head();
    if (error) {
      style_.keep_alive = false;
      if (auto reply = read_error(error, "the header", limits()))
        co_await refuse(*std::move(reply));
      co_return false;
    }
    if (auto reply = check_head()) {
      co_await refuse(*std::move(reply));
      co_return style_.keep_alive;
    }
    if (takes_body(match_.route)) co_return co_await serve_body();
    co_return co_await serve_plain();
  }

  void read_head() {
    const auto& head = parser_->get();
    style_ = AnswerStyle();
    style_.version = head.version() < 11 ? 10 : 11;
    style_.head = head.method() == http::verb::head;
    style_.request_id = request_id_or_new(std::string_view(head["X-Request-Id"]));
    // A body that is not read ends the connection.
    style_.keep_alive = head.keep_alive() && !door_.last_answers();
    style_.cors_origin = door_.allowed_origin(std::string_view(head["Origin"]));
    target_ = std::string(head.target());
    method_ = std::string(head.method_string());
    match_ = door_.match(target_);
    const std::string_view traceparent(head["traceparent"]);
    style_.trace = makes_text(match_.route) ? door_.frontend.trace_of(traceparent)
                                            : parse_traceparent(traceparent);
  }

  bool has_body() const { return parser_->chunked() || parser_->content_length().value_or(0) > 0; }

  // An answer that the head alone deserves: no work is done, and no body read, for these.
  std::optional<HttpReply> check_head() {
    const auto& head = parser_->get();
    if (has_body() && !takes_body(match_.route)) style_.keep_alive = false;
    const auto no_body = [this](HttpReply reply) {
      if (has_body()) style_.keep_alive = false;
      return reply;
    };
    if (std::distance(head.begin(), head.end()) > kMaxHeaderLines) {
      return no_body(http_error(431, "the header has more than 100 lines"));
    }
    // Browsers send no key with the question whether a page may ask.
    if (!style_.cors_origin.empty() && head.method() == http::verb::options &&
        head.count("Access-Control-Request-Method") > 0) {
      return no_body(preflight_reply());
    }
    caller_ = nullptr;
    if (match_.needs_key) {
      auto caller = door_.frontend.keys().identify(std::string_view(head["Authorization"]));
      if (!caller.ok()) {
        door_.frontend.metrics().count_auth_failure("http");
        return no_body(error_reply(caller.status()));
      }
      caller_ = *std::move(caller);
    }
    if (match_.route == Route::kUnknown) return no_body(http_error(404, "no such path"));
    if (!match_.allows(method_)) {
      HttpReply reply = http_error(405, "the method is not one of: " + std::string(match_.allowed));
      reply.headers.emplace_back("Allow", std::string(match_.allowed));
      return no_body(std::move(reply));
    }
    if (takes_body(match_.route)) return check_body_head(no_body);
    return std::nullopt;
  }

  template <typename NoBody>
  std::optional<HttpReply> check_body_head(const NoBody& no_body) {
    const auto& head = parser_->get();
    if (!is_json(std::string_view(head["Content-Type"]))) {
      return no_body(http_error(415, "Content-Type must be application/json"));
    }
    const std::string_view coding(head["Transfer-Encoding"]);
    if (!coding.empty() && !beast::iequals(coding, "chunked")) {
      return no_body(http_error(501, "the only Transfer-Encoding that is read is chunked"));
    }
    const std::string_view content_coding(head["Content-Encoding"]);
    if (!content_coding.empty() && !beast::iequals(content_coding, "identity")) {
      return no_body(http_error(415, "a Content-Encoding is not read: send the body as it is"));
    }
    if (!parser_->chunked() && !parser_->content_length()) {
      return no_body(http_error(411, "Content-Length or chunked Transfer-Encoding is required"));
    }
    if (parser_->content_length().value_or(0) > limits().max_body_bytes) {
      return no_body(too_large(limits()));
    }
    const std::string_view expect(head["Expect"]);
    if (!expect.empty() && !beast::iequals(expect, "100-continue")) {
      return no_body(http_error(417, "the only expectation that is met is 100-continue"));
    }
    return std::nullopt;
  }

  asio::awaitable<bool> serve_plain() {
    HttpReply reply = answer_plain(match_, door_.frontend, caller_);
    const int status = reply.status;
    const bool written = co_await write_reply(stream_, door_, std::move(reply), style_);
    // Probes and scrapes would be most of the log.
    if (match_.route == Route::kModels || match_.route == Route::kModel) log(status, nullptr);
    co_return written&& style_.keep_alive;
  }

  asio::awaitable<bool> serve_body() {
    auto slot = door_.frontend.reserve(caller_);
    if (!slot.ok()) {
      style_.keep_alive = false;  // the body was not read
      co_await refuse(error_reply(slot.status(), Frontend::retry_after_ms(caller_)));
      co_return false;
    }
    if (auto failed = co_await read_body()) {
      style_.keep_alive = false;
      if (auto reply = read_error(failed, "the body", limits())) co_await refuse(*std::move(reply));
      co_return false;
    }
    const Outcome outcome =
        co_await run_exchange(stream_, door_, match_.route, *std::move(slot),
                              std::move(parser_->get().body()), style_, arrival_);
    log(outcome.status, outcome.status == 200 ? &outcome.usage : nullptr);
    if (makes_text(match_.route)) {
      RequestRecord record = record_of(outcome.status, outcome.usage);
      export_span(record);
      door_.frontend.remember(std::move(record));
    }
    co_return outcome.open&& keep_ahead(outcome.ahead);
  }

  // Bytes of the next request that came while an answer was awaited.
  bool keep_ahead(std::string_view ahead) {
    if (buffer_.size() + ahead.size() > buffer_.max_size()) return false;
    buffer_.commit(asio::buffer_copy(buffer_.prepare(ahead.size()), asio::buffer(ahead)));
    return true;
  }

  asio::awaitable<boost::system::error_code> read_body() {
    auto limit = co_await begin_limit(limits().body_timeout);
    if (!parser_->get()["Expect"].empty() && style_.version >= 11) {
      static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
      const auto [error, size] =
          co_await asio::async_write(stream_, asio::buffer(kContinue), kAwait);
      if (error) co_return limit.end(error);
    }
    parser_->body_limit(limits().max_body_bytes);
    const auto [error, size] = co_await http::async_read(stream_, buffer_, *parser_, kAwait);
    co_return limit.end(error);
  }

  // An error answer. When it ends the connection, the client gets time to read it: closing on
  // unread bytes would reset the connection under it.
  asio::awaitable<void> refuse(HttpReply reply) {
    log(reply.status, nullptr);
    if (makes_text(match_.route)) export_span(record_of(reply.status, {}));
    const bool written = co_await write_reply(stream_, door_, std::move(reply), style_);
    if (!written || style_.keep_alive) co_return;
    stream_.shutdown_send();
    stream_.expires_after(kLingerLimit);
    std::vector<char> sink(16 << 10);
    for (std::size_t total = 0; total < kLingerBytes;) {
      const auto [error, size] = co_await stream_.async_read_some(asio::buffer(sink), kAwait);
      if (error) co_return;
      total += size;
    }
  }

  RequestRecord record_of(int status, const Usage& usage) const {
    return {style_.request_id,
            std::string(path_of(target_).substr(0, 256)),
            std::to_string(status),
            wall_seconds_now(),
            to_seconds(steady_now() - arrival_),
            tenant_of(caller_),
            usage};
  }

  void export_span(const RequestRecord& record) const {
    const bool completes = match_.route == Route::kCompletions;
    door_.frontend.export_span(style_.trace, SpanDoor::kHttp,
                               completes ? "text_completion" : "chat", record);
  }

  void log(int status, const Usage* usage) {
    // Clients choose both: the log keeps as much as any of ours has.
    log_access({"http", std::string_view(method_).substr(0, 16),
                std::string(path_of(target_).substr(0, 256)), style_.request_id,
                std::to_string(status), arrival_, usage, caller_, style_.trace});
  }

  DoorStream stream_;
  Door& door_;
  beast::flat_buffer buffer_{kMaxHeaderBytes + (64 << 10)};
  std::optional<Parser> parser_;
  AnswerStyle style_;
  RouteMatch match_;
  std::string target_;
  std::string method_;
  TimePoint arrival_{};
  Caller caller_;
};

}  // namespace

asio::awaitable<void> run_connection(beast::tcp_stream tcp, Door& door) {
  Connection connection(std::move(tcp), door);
  co_await connection.run();
}

}  // namespace latentd

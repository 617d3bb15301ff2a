#include "server/http/exchange.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http.hpp>
#include <memory>
#include <optional>
#include <vector>

#include "server/http/work.h"

namespace latentd {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t kSliceBytes = 16 << 10;                // what one stall limit is for
constexpr std::size_t kBacklogLimit = std::size_t{8} << 20;  // of what a reader leaves lying
constexpr Duration kKeepAliveInterval = std::chrono::seconds(15);

// What the text pool and egress bring to the connection's strand; touched on that strand alone.
// Shared with them: they may hold it longer than the connection lives.
struct Mailroom {
  explicit Mailroom(const asio::any_io_executor& executor) : wake(executor) {}

  asio::steady_timer wake;
  std::unique_ptr<Response> response;     // there before any update
  std::vector<GenerationUpdate> updates;  // a request that fails at once has one, done and wrong
  std::size_t backlog = 0;                // bytes of `updates`, about
  std::optional<HttpReply> reply;         // of a request that needs no generation
  std::optional<GenerationId> generation;
  bool client_left = false;
  bool too_slow = false;  // backlog went beyond its limit: the generation was cancelled
  bool over = false;      // the exchange has ended: nobody looks any more

  // Of an encrypted stream, which can only be watched by reading.
  bool reading = false;
  std::array<char, 4096> buffer{};
  std::string ahead;  // what was read: the start of a next request
};

template <typename Change>
void post_to(const std::shared_ptr<Mailroom>& room, Change change) {
  asio::post(room->wake.get_executor(), [room, change = std::move(change)]() mutable {
    change(*room);
    room->wake.cancel();
  });
}

std::size_t size_of(const GenerationUpdate& update) {
  std::size_t size = sizeof(update);
  for (const ChoiceDelta& delta : update.choices) {
    size += sizeof(delta) + delta.text.size();
    for (const auto* pieces : {&delta.tokens, &delta.prompt_tokens}) {
      for (const TokenPiece& piece : *pieces) {
        size += sizeof(piece) + piece.top.size() * sizeof(TokenLogprob);
      }
    }
  }
  return size;
}

// Keeps an update for the connection, unless its reader has let too much pile up. Whole answers are
// all collected: they are bounded by max_tokens.
void keep(Frontend& frontend, Mailroom& mail, GenerationUpdate update) {
  if (mail.over || mail.too_slow) return;
  mail.backlog += size_of(update);
  mail.updates.push_back(std::move(update));
  if (mail.backlog <= kBacklogLimit || !mail.generation || !mail.response->streams()) return;
  mail.too_slow = true;
  mail.updates.clear();
  frontend.cancel(*mail.generation, "slow_reader");
}

Status reject(Frontend& frontend, Status status) {
  frontend.metrics().count_rejected("invalid");
  return status;
}

// On the text pool.
Status begin(Frontend& frontend, const std::shared_ptr<Mailroom>& room, Route route,
             IntakeSlot slot, const std::string& body, const std::string& request_id,
             TimePoint arrival) {
  auto work = read_work(route, body, *frontend.model(), request_id);
  if (!work.ok()) return reject(frontend, work.status());
  if (auto* reply = std::get_if<HttpReply>(&*work)) {
    post_to(room,
            [reply = std::move(*reply)](Mailroom& mail) mutable { mail.reply = std::move(reply); });
    return ok_status();
  }
  auto& generation = std::get<GenerationWork>(*work);
  post_to(room, [response = std::move(generation.response)](Mailroom& mail) mutable {
    mail.response = std::move(response);
  });
  UpdateSink sink = [room, &frontend](GenerationUpdate update) {
    post_to(room, [&frontend, update = std::move(update)](Mailroom& mail) mutable {
      keep(frontend, mail, std::move(update));
    });
  };
  LATENTD_ASSIGN_OR_RETURN(const GenerationId id,
                           frontend.launch(std::move(generation.prepared), std::move(slot), "",
                                           std::move(sink), arrival));
  post_to(room, [&frontend, id](Mailroom& mail) {
    mail.generation = id;
    if (mail.over && mail.client_left) frontend.cancel(id, "disconnect");
  });
  return ok_status();
}

// As watch, of an encrypted stream: what shows on its socket may be a close or anything else, so it
// is read. Whoever ends the exchange waits for the end of that.
void watch_encrypted(DoorStream& stream, const std::shared_ptr<Mailroom>& room) {
  room->reading = true;
  stream.async_read_some(asio::buffer(room->buffer),
                         [room](const boost::system::error_code& error, std::size_t size) {
                           room->reading = false;
                           room->client_left = room->client_left || (error && !room->over);
                           room->ahead.assign(room->buffer.data(), size);
                           room->wake.cancel();
                         });
}

// Sets client_left when the peer closes while nothing is being read. Bytes of a next request end
// the watch: they are left where they are.
void watch(DoorStream& stream, const std::shared_ptr<Mailroom>& room) {
  if (stream.encrypted()) return watch_encrypted(stream, room);
  stream.socket().async_wait(
      asio::ip::tcp::socket::wait_read, [&stream, room](const boost::system::error_code& error) {
        if (error || room->over) return;  // the exchange has ended; `stream` may be gone
        char byte = 0;
        const auto got = ::recv(stream.socket().native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
        if (got > 0) return;
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
          watch(stream, room);
          return;
        }
        room->client_left = true;
        room->wake.cancel();
      });
}

template <typename Message>
void add_cors(const AnswerStyle& style, Message& message) {
  if (style.cors_origin.empty()) return;
  message.set(http::field::access_control_allow_origin, style.cors_origin);
  message.set(http::field::access_control_expose_headers,
              "X-Request-Id, Retry-After, Retry-After-Ms");
  if (style.cors_origin != "*") message.set(http::field::vary, "Origin");
}

class Exchange final {
 public:
  Exchange(DoorStream& stream, Door& door, Route route, AnswerStyle style)
      : stream_(stream),
        door_(door),
        route_(route),
        style_(std::move(style)),
        room_(std::make_shared<Mailroom>(stream.get_executor())) {}

  asio::awaitable<Outcome> run(IntakeSlot slot, std::string body, TimePoint arrival) {
    stream_.expires_never();
    door_.frontend.post([&frontend = door_.frontend, room = room_, route = route_,
                         slot = std::move(slot), body = std::move(body),
                         request_id = style_.request_id, arrival]() mutable {
      Status status = begin(frontend, room, route, std::move(slot), body, request_id, arrival);
      if (status.ok()) return;
      GenerationUpdate failed;
      failed.done = true;
      failed.error = std::move(status);
      post_to(room, [failed = std::move(failed)](Mailroom& mail) mutable {
        mail.updates.push_back(std::move(failed));
      });
    });
    watch(stream_, room_);
    co_await answer();
    co_await finish();
    co_return outcome_;
  }

 private:
  asio::awaitable<void> answer() {
    bool done = false;
    while (!done) {
      const bool something = co_await wait();
      if (room_->client_left || room_->too_slow) {
        outcome_.status = 499;
        co_return;
      }
      if (room_->reply) {
        co_await reply(*std::move(room_->reply));
        co_return;
      }
      std::string out;
      if (!something) out = kSseKeepAlive;
      room_->backlog = 0;
      for (GenerationUpdate& update : std::exchange(room_->updates, {})) {
        if (update.done) done_ = done = true;
        outcome_.usage = update.usage;
        if (!update.error.ok() && !head_written_) {
          co_await reply(error_reply(update.error));
          co_return;
        }
        take(std::move(update), out);
      }
      if (room_->response->streams()) {
        const bool written = co_await write_part(std::move(out), done);
        if (!written) co_return;
      } else if (done) {
        HttpReply whole;
        whole.body = room_->response->body();
        co_await reply(std::move(whole));
      }
    }
  }

  // Until something has come, or (false) a stream's keep-alive is due.
  asio::awaitable<bool> wait() {
    while (true) {
      if (room_->client_left || room_->too_slow) co_return true;
      if (room_->reply || !room_->updates.empty()) co_return true;
      // Often enough for a reader that has gone to be noticed within the stall limit.
      room_->wake.expires_after(std::min(kKeepAliveInterval, door_.frontend.stall_limit() / 2));
      const auto [error] = co_await room_->wake.async_wait(kAwait);
      const bool idle = !error && room_->response != nullptr && room_->response->streams();
      if (idle && room_->updates.empty()) co_return false;
    }
  }

  void take(GenerationUpdate update, std::string& out) {
    if (!room_->response->streams()) {
      room_->response->collect(std::move(update));
      return;
    }
    if (update.error.ok()) {
      room_->response->append_events(update, out);
      return;
    }
    room_->response->append_error(update.error, out);
  }

  asio::awaitable<void> reply(HttpReply answer) {
    outcome_.status = answer.status;
    const bool written = co_await write_reply(stream_, door_, std::move(answer), style_);
    outcome_.open = written && style_.keep_alive;
  }

  // Part of a stream; the head before the first.
  asio::awaitable<bool> write_part(std::string part, bool last) {
    if (style_.version < 11) style_.keep_alive = false;
    if (!head_written_) {
      const bool written = co_await write_head();
      if (!written) co_return false;
    }
    head_written_ = true;
    boost::system::error_code failed = co_await write_bytes(part);
    if (!failed && last && style_.version >= 11) {
      stream_.expires_after(door_.frontend.stall_limit());
      const auto [error, size] =
          co_await asio::async_write(stream_, http::make_chunk_last(), kAwait);
      failed = error;
    }
    stream_.expires_never();
    if (failed) {
      slow_ = failed == beast::error::timeout;
      room_->client_left = true;
      co_return false;
    }
    outcome_.open = last && style_.keep_alive;
    co_return true;
  }

  // In slices, each with a time limit of its own: a slow reader is not a stuck one.
  asio::awaitable<boost::system::error_code> write_bytes(std::string_view part) {
    while (!part.empty()) {
      const auto slice = asio::buffer(part.substr(0, kSliceBytes));
      part.remove_prefix(slice.size());
      stream_.expires_after(door_.frontend.stall_limit());
      boost::system::error_code failed;
      // Two statements, not a conditional: g++ 12 runs both arms of a ?: that awaits.
      if (style_.version < 11) {
        const auto [error, size] = co_await asio::async_write(stream_, slice, kAwait);
        failed = error;
      } else {
        const auto [error, size] =
            co_await asio::async_write(stream_, http::make_chunk(slice), kAwait);
        failed = error;
      }
      if (failed) co_return failed;
    }
    co_return boost::system::error_code();
  }

  asio::awaitable<bool> write_head() {
    http::response<http::empty_body> head(http::status::ok, style_.version);
    head.set(http::field::content_type, "text/event-stream; charset=utf-8");
    head.set(http::field::cache_control, "no-cache");
    head.set("X-Accel-Buffering", "no");
    head.set("X-Request-Id", style_.request_id);
    add_cors(style_, head);
    if (style_.trace) head.set("traceresponse", style_.trace->response());
    head.keep_alive(style_.keep_alive);
    if (style_.version >= 11) head.chunked(true);
    http::response_serializer<http::empty_body> serializer(head);
    stream_.expires_after(door_.frontend.stall_limit());
    const auto [error, size] = co_await http::async_write_header(stream_, serializer, kAwait);
    room_->client_left = room_->client_left || error.failed();
    co_return !error.failed();
  }

  // Ends the watch, and the generation if nobody waits for it any more.
  asio::awaitable<void> finish() {
    room_->over = true;
    boost::system::error_code ignored;
    stream_.socket().cancel(ignored);
    while (room_->reading) {
      room_->wake.expires_after(kKeepAliveInterval);
      co_await room_->wake.async_wait(kAwait);
    }
    outcome_.ahead = std::move(room_->ahead);
    if (room_->client_left || room_->too_slow) {
      outcome_.open = false;
      if (room_->generation && !done_ && !room_->too_slow) {
        door_.frontend.cancel(*room_->generation, slow_ ? "slow_reader" : "disconnect");
      }
    }
  }

  DoorStream& stream_;
  Door& door_;
  const Route route_;
  AnswerStyle style_;
  const std::shared_ptr<Mailroom> room_;
  Outcome outcome_;
  bool head_written_ = false;
  bool done_ = false;  // the generation has ended
  bool slow_ = false;
};

}  // namespace

asio::awaitable<Outcome> run_exchange(DoorStream& stream, Door& door, Route route, IntakeSlot slot,
                                      std::string body, AnswerStyle style, TimePoint arrival) {
  Exchange exchange(stream, door, route, std::move(style));
  co_return co_await exchange.run(std::move(slot), std::move(body), arrival);
}

asio::awaitable<bool> write_reply(DoorStream& stream, Door& door, HttpReply reply,
                                  AnswerStyle style) {
  http::response<http::string_body> response(static_cast<http::status>(reply.status),
                                             style.version);
  response.set(http::field::content_type, reply.content_type);
  response.set("X-Request-Id", style.request_id);
  if (style.trace) response.set("traceresponse", style.trace->response());
  for (const auto& [name, value] : reply.headers) response.set(name, value);
  response.keep_alive(style.keep_alive);
  if (reply.status != 204) response.content_length(reply.body.size());
  add_cors(style, response);
  if (!style.head) response.body() = std::move(reply.body);
  stream.expires_after(door.frontend.stall_limit());
  const auto [error, size] = co_await http::async_write(stream, response, kAwait);
  stream.expires_never();
  co_return !error.failed();
}

}  // namespace latentd

#include "loadtest/null_server.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/streambuf.hpp>
#include <boost/asio/write.hpp>
#include <charconv>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/clock.h"

namespace latentd::loadtest {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr int kTokensAtOnce = 256;  // of an answer without a pace, a write

int number_after(std::string_view text, std::string_view key, int fallback) {
  const std::size_t at = text.find(key);
  if (at == text.npos) return fallback;
  int value = fallback;
  const char* begin = text.data() + at + key.size();
  std::from_chars(begin, text.data() + text.size(), value);
  return value;
}

// Commas of the prompt's list: good enough for the usage of an answer that nobody reads.
int prompt_tokens(std::string_view body) {
  const std::size_t begin = body.find("\"prompt\":[");
  if (begin == body.npos) return 1;
  const std::size_t end = std::min(body.find(']', begin), body.size());
  return 1 + static_cast<int>(std::ranges::count(body.substr(begin, end - begin), ','));
}

void append_chunk(std::string& out, std::string_view data) {
  out += fmt::format("{:x}\r\ndata: {}\n\n\r\n", data.size() + 8, data);
}

// What the server did and by its own clock, under vLLM's names; so a client's figures can be held
// against it.
struct Statistics {
  int running = 0;
  std::uint64_t prompt_tokens = 0, generated_tokens = 0, answers = 0, first_tokens = 0;
  double first_token_seconds = 0.0, answer_seconds = 0.0;

  std::string text() const {
    return fmt::format(
        "vllm:num_requests_running {}\nvllm:num_requests_waiting 0\nvllm:kv_cache_usage_perc 0\n"
        "vllm:prompt_tokens_total {}\nvllm:generation_tokens_total {}\n"
        "vllm:time_to_first_token_seconds_sum {}\nvllm:time_to_first_token_seconds_count {}\n"
        "vllm:e2e_request_latency_seconds_sum {}\nvllm:e2e_request_latency_seconds_count {}\n",
        running, prompt_tokens, generated_tokens, first_token_seconds, first_tokens, answer_seconds,
        answers);
  }
};

// Lives as long as a handler holds it.
class Connection final : public std::enable_shared_from_this<Connection> {
 public:
  Connection(tcp::socket socket, const NullServerOptions& options, Statistics& statistics)
      : socket_(std::move(socket)),
        timer_(socket_.get_executor()),
        options_(options),
        statistics_(statistics) {}
  ~Connection() {
    if (answering_) --statistics_.running;
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void read_head() {
    asio::async_read_until(socket_, asio::dynamic_buffer(in_, 64 << 20), "\r\n\r\n",
                           [self = shared_from_this()](error_code error, std::size_t size) {
                             if (!error) self->read_body(size);
                           });
  }

 private:
  void read_body(std::size_t head) {
    const int length = number_after(std::string_view(in_).substr(0, head), "Content-Length: ", 0);
    const std::size_t whole = head + static_cast<std::size_t>(std::max(length, 0));
    const std::size_t missing = whole > in_.size() ? whole - in_.size() : 0;
    asio::async_read(socket_, asio::dynamic_buffer(in_), asio::transfer_exactly(missing),
                     [self = shared_from_this(), head, whole](error_code error, std::size_t) {
                       if (!error) self->answer(head, whole);
                     });
  }

  void answer(std::size_t head, std::size_t whole) {
    if (in_.starts_with("GET ")) return send_metrics(whole);
    const std::string_view body = std::string_view(in_).substr(head, whole - head);
    max_tokens_ = number_after(body, "\"max_tokens\":", 16);
    lists_ids_ = body.find("\"return_token_ids\":true") != body.npos;
    prompt_tokens_ = prompt_tokens(body);
    in_.erase(0, whole);
    sent_ = 0;
    asked_ = steady_now();
    answering_ = true;
    ++statistics_.running;
    statistics_.prompt_tokens += static_cast<std::uint64_t>(prompt_tokens_);
    out_ =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
        "Transfer-Encoding: chunked\r\n\r\n";
    due_ = asked_ + milliseconds(options_.first_token_ms);
    if (options_.first_token_ms > 0.0) {
      wait();
    } else {
      write_next();
    }
  }

  void send_metrics(std::size_t whole) {
    in_.erase(0, whole);
    const std::string body = statistics_.text();
    out_ = fmt::format(
        "HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n"
        "\r\n{}",
        body.size(), body);
    asio::async_write(socket_, asio::buffer(out_),
                      [self = shared_from_this()](error_code, std::size_t) {
                        error_code ignored;
                        self->socket_.close(ignored);
                      });
  }

  static Duration milliseconds(double value) {
    return std::chrono::duration_cast<Duration>(std::chrono::duration<double, std::milli>(value));
  }

  void wait() {
    timer_.expires_at(due_);
    timer_.async_wait([self = shared_from_this()](error_code error) {
      if (!error) self->write_next();
    });
  }

  void append_token() {
    const bool last = sent_ + 1 == max_tokens_;
    const std::string ids = lists_ids_ ? fmt::format(R"(,"token_ids":[{}])", sent_) : "";
    append_chunk(out_, fmt::format(R"({{"id":"cmpl-0","object":"text_completion","created":0,)"
                                   R"("model":"null","choices":[{{"index":0,"text":" {}",)"
                                   R"("logprobs":null,"finish_reason":{}{}}}],"usage":null}})",
                                   sent_, last ? "\"length\"" : "null", ids));
    ++sent_;
  }

  void write_next() {
    if (sent_ == 0) {
      statistics_.first_token_seconds += to_seconds(steady_now() - asked_);
      ++statistics_.first_tokens;
    }
    const int count = options_.tokens_per_s > 0.0 ? 1 : kTokensAtOnce;
    for (int i = 0; i < count && sent_ < max_tokens_; ++i) append_token();
    const bool over = sent_ >= max_tokens_;
    if (over) {
      answering_ = false;
      --statistics_.running;
      ++statistics_.answers;
      statistics_.answer_seconds += to_seconds(steady_now() - asked_);
      statistics_.generated_tokens += static_cast<std::uint64_t>(sent_);
      append_chunk(out_, fmt::format(R"({{"id":"cmpl-0","choices":[],"usage":{{"prompt_tokens":{},)"
                                     R"("completion_tokens":{},"total_tokens":{}}}}})",
                                     prompt_tokens_, sent_, prompt_tokens_ + sent_));
      append_chunk(out_, "[DONE]");
      out_ += "0\r\n\r\n";
    }
    asio::async_write(socket_, asio::buffer(out_),
                      [self = shared_from_this(), over](error_code error, std::size_t) {
                        self->out_.clear();
                        if (!error) self->after_write(over);
                      });
  }

  void after_write(bool over) {
    if (over) return read_head();
    if (options_.tokens_per_s <= 0.0) return write_next();
    due_ += milliseconds(1e3 / options_.tokens_per_s);
    wait();
  }

  tcp::socket socket_;
  asio::steady_timer timer_;
  const NullServerOptions& options_;
  Statistics& statistics_;
  std::string in_, out_;
  TimePoint asked_{}, due_{};
  int max_tokens_ = 0, prompt_tokens_ = 0, sent_ = 0;
  bool lists_ids_ = false;
  bool answering_ = false;
};

class Acceptor final {
 public:
  Acceptor(asio::io_context& io, tcp::acceptor& acceptor, const NullServerOptions& options,
           Statistics& statistics)
      : io_(io), acceptor_(acceptor), options_(options), statistics_(statistics) {}

  void accept() {
    acceptor_.async_accept(io_, [this](error_code error, tcp::socket socket) {
      if (!error) {
        error_code ignored;
        socket.set_option(tcp::no_delay(true), ignored);
        std::make_shared<Connection>(std::move(socket), options_, statistics_)->read_head();
      }
      if (acceptor_.is_open()) accept();
    });
  }

 private:
  asio::io_context& io_;
  tcp::acceptor& acceptor_;
  const NullServerOptions& options_;
  Statistics& statistics_;
};

}  // namespace

Status run_null_server(const NullServerOptions& options, const std::atomic<bool>& stop,
                       const std::function<void(int port)>& listening) {
  try {
    Statistics statistics;  // outlives the connections, which end with `io`
    asio::io_context io(1);
    tcp::acceptor acceptor(io, tcp::endpoint(asio::ip::address_v4::loopback(),
                                             static_cast<std::uint16_t>(options.port)));
    acceptor.listen(4096);
    listening(acceptor.local_endpoint().port());
    Acceptor accepting(io, acceptor, options, statistics);
    accepting.accept();
    while (!stop.load()) {
      io.run_for(std::chrono::milliseconds(100));
      if (io.stopped()) io.restart();
    }
    return ok_status();
  } catch (const std::exception& error) {
    return Status(StatusCode::kUnavailable, error.what());
  }
}

}  // namespace latentd::loadtest

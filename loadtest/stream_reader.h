// StreamReader: bytes of an HTTP/1.1 response with server-sent events in, events out.
//
// Made for many streams at once: an idle stream is a few dozen bytes, a line that lies whole in the
// read buffer is handed on without a copy, and no JSON is parsed: scan_event looks for the few keys
// that count. Borders between reads may fall anywhere, inside a chunk size or a key too.
//
// Contract: one thread. feed() calls on_event for each `data:` line (OpenAI's servers send one a
// event), in order, without its prefix and line end; an `error:` line is remembered. A response
// that is not 200 has no events; the first kMaxErrorBody bytes of its body are kept.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace latentd::loadtest {

// What one event says. A quote inside a JSON string is always escaped, so a search for `"key":`
// finds no text that a model wrote.
struct EventFacts {
  bool error = false;      // {"error": ...}
  bool has_text = false;   // text, content or token ids that are not empty
  bool finished = false;   // a finish_reason that is not null
  bool at_length = false;  // ... and it is "length": max_tokens were made
  int token_ids = 0;       // how many, when the server lists them
  std::uint64_t hash = 0;  // the hash handed in, over these ids
  int prompt_tokens = -1;  // of the usage, or of llama.cpp's timings; -1: not said
  int completion_tokens = -1;
  int cached_tokens = -1;
};

inline constexpr std::uint64_t kEmptyHash = 0xcbf29ce484222325ULL;

// Adds a token id to a hash that depends on their order (FNV-1a over the id's four bytes).
constexpr std::uint64_t hash_token(std::uint64_t hash, std::int32_t token) {
  auto rest = static_cast<std::uint32_t>(token);
  for (int i = 0; i < 4; ++i, rest >>= 8) hash = (hash ^ (rest & 0xffU)) * 0x100000001b3ULL;
  return hash;
}

EventFacts scan_event(std::string_view data, std::uint64_t hash);

class StreamReader final {
 public:
  static constexpr std::size_t kMaxLine = 16 << 20;
  static constexpr std::size_t kMaxErrorBody = 512;

  enum class State : std::uint8_t {
    kStatus,
    kHeaders,
    kLengthBody,
    kEndlessBody,
    kChunkSize,
    kChunkData,
    kChunkEnd,
    kTrailer,
    kComplete,  // the response is over: bytes that follow belong to the next
    kBroken,    // not HTTP
  };

  void reset();  // for the next response on the connection

  // Takes the bytes; returns false when they are not HTTP. Bytes after the end are left alone.
  template <typename OnEvent>
  bool feed(std::string_view bytes, OnEvent on_event);

  State state() const { return state_; }
  bool complete() const { return state_ == State::kComplete; }
  // The connection was closed by the server: true when that is a proper end of the body.
  bool complete_at_close() const { return complete() || state_ == State::kEndlessBody; }
  bool started() const { return started_; }
  bool keep_alive() const { return keep_alive_; }
  int status() const { return status_; }
  const std::string& error_body() const { return error_body_; }
  bool saw_error_line() const { return error_line_; }

 private:
  // Moves a line without its end into `line`; false: more bytes are needed (what there was is
  // kept).
  bool take_line(std::string_view& bytes, std::string_view& line);
  void take_head_line(std::string_view line);
  bool take_status(std::string_view line);
  void begin_body();
  void take_chunk_size(std::string_view line);
  // The next piece of the body, or nothing when more bytes are needed.
  std::string_view take_body(std::string_view& bytes);

  State state_ = State::kStatus;
  bool started_ = false;
  bool keep_alive_ = true;
  bool chunked_ = false;
  bool error_line_ = false;
  bool line_kept_ = false;  // carry_ was handed out as a line: forget it
  std::int64_t length_ = -1;
  std::uint64_t left_ = 0;  // of the body or the chunk
  int status_ = 0;
  std::string carry_;  // the beginning of a header or chunk line
  std::string event_;  // the beginning of an event line
  std::string error_body_;
};

template <typename OnEvent>
bool StreamReader::feed(std::string_view bytes, OnEvent on_event) {
  started_ = started_ || !bytes.empty();
  while (!bytes.empty() && !complete()) {
    std::string_view body = take_body(bytes);
    if (state_ == State::kBroken) return false;
    if (status_ != 200) {
      error_body_.append(body.substr(0, kMaxErrorBody - error_body_.size()));
      continue;
    }
    for (std::size_t end = body.find('\n'); end != body.npos; end = body.find('\n')) {
      std::string_view line = body.substr(0, end);
      body.remove_prefix(end + 1);
      if (!event_.empty()) {
        event_.append(line);
        line = event_;
      }
      if (line.ends_with('\r')) line.remove_suffix(1);
      if (line.starts_with("data:")) {
        line.remove_prefix(line.starts_with("data: ") ? 6 : 5);
        on_event(line);
      } else if (line.starts_with("error:")) {  // older llama.cpp
        error_line_ = true;
      }
      event_.clear();
    }
    event_.append(body);
    if (event_.size() > kMaxLine) return false;
  }
  return state_ != State::kBroken;
}

}  // namespace latentd::loadtest

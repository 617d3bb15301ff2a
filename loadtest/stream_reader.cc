#include "loadtest/stream_reader.h"

#include <algorithm>
#include <cctype>
#include <charconv>

namespace latentd::loadtest {
namespace {

constexpr std::size_t kMaxHeaderLine = 16 << 10;

// What follows `"key":` and spaces; empty when there is no such key.
std::string_view value_of(std::string_view json, std::string_view quoted_key) {
  for (std::size_t at = json.find(quoted_key); at != json.npos;
       at = json.find(quoted_key, at + 1)) {
    std::string_view rest = json.substr(at + quoted_key.size());
    const auto skip = [&rest] {
      while (!rest.empty() && (rest.front() == ' ' || rest.front() == '\t')) rest.remove_prefix(1);
    };
    skip();
    if (!rest.starts_with(':')) continue;
    rest.remove_prefix(1);
    skip();
    return rest;
  }
  return {};
}

int int_of(std::string_view json, std::string_view quoted_key) {
  const std::string_view value = value_of(json, quoted_key);
  int number = -1;
  std::from_chars(value.data(), value.data() + value.size(), number);
  return number;
}

bool is_filled_string(std::string_view value) {
  return value.size() > 1 && value[0] == '"' && value[1] != '"';
}

void scan_ids(std::string_view value, EventFacts& facts) {
  if (!value.starts_with('[')) return;
  const char* at = value.data() + 1;
  const char* const end = value.data() + value.size();
  while (at != end && *at != ']') {
    std::int32_t id = 0;
    const auto parsed = std::from_chars(at, end, id);
    if (parsed.ec == std::errc()) {
      facts.hash = hash_token(facts.hash, id);
      ++facts.token_ids;
      at = parsed.ptr;
    } else {
      ++at;
    }
  }
}

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

}  // namespace

EventFacts scan_event(std::string_view data, std::uint64_t hash) {
  EventFacts facts;
  facts.hash = hash;
  const std::string_view error = value_of(data, "\"error\"");
  facts.error = !error.empty() && !error.starts_with("null");
  scan_ids(value_of(data, "\"token_ids\""), facts);
  facts.has_text = facts.token_ids > 0 || is_filled_string(value_of(data, "\"text\"")) ||
                   is_filled_string(value_of(data, "\"content\"")) ||
                   is_filled_string(value_of(data, "\"reasoning_content\"")) ||
                   is_filled_string(value_of(data, "\"reasoning\""));
  const std::string_view finish = value_of(data, "\"finish_reason\"");
  facts.finished = !finish.empty() && !finish.starts_with("null");
  facts.at_length = finish.starts_with("\"length\"");
  if (value_of(data, "\"usage\"").starts_with('{')) {
    facts.prompt_tokens = int_of(data, "\"prompt_tokens\"");
    facts.completion_tokens = int_of(data, "\"completion_tokens\"");
    facts.cached_tokens = int_of(data, "\"cached_tokens\"");
  } else if (value_of(data, "\"timings\"").starts_with('{')) {
    facts.completion_tokens = int_of(data, "\"predicted_n\"");
    facts.cached_tokens = int_of(data, "\"cache_n\"");
    facts.prompt_tokens = int_of(data, "\"prompt_n\"");  // without the cached ones
    if (facts.prompt_tokens >= 0) facts.prompt_tokens += std::max(facts.cached_tokens, 0);
  }
  return facts;
}

void StreamReader::reset() {
  // Strings keep their memory: the next response will need it.
  std::string carry = std::move(carry_);
  std::string event = std::move(event_);
  carry.clear();
  event.clear();
  *this = StreamReader();
  carry_ = std::move(carry);
  event_ = std::move(event);
}

bool StreamReader::take_line(std::string_view& bytes, std::string_view& line) {
  if (line_kept_) {
    carry_.clear();
    line_kept_ = false;
  }
  const std::size_t end = bytes.find('\n');
  if (end == bytes.npos) {
    carry_.append(bytes);
    bytes = {};
    if (carry_.size() > kMaxHeaderLine) state_ = State::kBroken;
    return false;
  }
  line = bytes.substr(0, end);
  bytes.remove_prefix(end + 1);
  if (!carry_.empty()) {
    carry_.append(line);
    line = carry_;
    line_kept_ = true;
  }
  if (line.ends_with('\r')) line.remove_suffix(1);
  return true;
}

bool StreamReader::take_status(std::string_view line) {
  if (!line.starts_with("HTTP/1.") || line.size() < 12) return false;
  const auto [end, error] = std::from_chars(line.data() + 9, line.data() + 12, status_);
  if (error != std::errc() || end != line.data() + 12) return false;
  keep_alive_ = line[7] == '1';
  chunked_ = false;
  length_ = -1;
  state_ = State::kHeaders;
  return true;
}

void StreamReader::take_head_line(std::string_view line) {
  if (line.empty()) {
    if (status_ >= 100 && status_ < 200) {
      state_ = State::kStatus;  // 100 Continue: the response proper follows
    } else {
      begin_body();
    }
    return;
  }
  const std::size_t colon = line.find(':');
  if (colon == line.npos) return;
  const std::string_view name = line.substr(0, colon);
  std::string_view value = line.substr(colon + 1);
  while (value.starts_with(' ') || value.starts_with('\t')) value.remove_prefix(1);
  while (value.ends_with(' ') || value.ends_with('\t')) value.remove_suffix(1);
  if (equals_ignoring_case(name, "transfer-encoding")) {
    chunked_ = value.size() >= 7 && equals_ignoring_case(value.substr(value.size() - 7), "chunked");
  } else if (equals_ignoring_case(name, "content-length")) {
    std::int64_t length = -1;
    std::from_chars(value.data(), value.data() + value.size(), length);
    length_ = length;
  } else if (equals_ignoring_case(name, "connection")) {
    if (equals_ignoring_case(value, "close")) keep_alive_ = false;
    if (equals_ignoring_case(value, "keep-alive")) keep_alive_ = true;
  }
}

void StreamReader::begin_body() {
  if (chunked_) {
    state_ = State::kChunkSize;
  } else if (length_ > 0) {
    left_ = static_cast<std::uint64_t>(length_);
    state_ = State::kLengthBody;
  } else if (length_ == 0 || status_ == 204 || status_ == 304) {
    state_ = State::kComplete;
  } else {
    keep_alive_ = false;
    state_ = State::kEndlessBody;
  }
}

void StreamReader::take_chunk_size(std::string_view line) {
  std::uint64_t size = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), size, 16);
  if (error != std::errc() || end == line.data()) {
    state_ = State::kBroken;
    return;
  }
  left_ = size;
  state_ = size == 0 ? State::kTrailer : State::kChunkData;
}

std::string_view StreamReader::take_body(std::string_view& bytes) {
  while (!bytes.empty()) {
    std::string_view line;
    switch (state_) {
      case State::kStatus:
        if (!take_line(bytes, line)) return {};
        if (!take_status(line)) state_ = State::kBroken;
        break;
      case State::kHeaders:
        if (!take_line(bytes, line)) return {};
        take_head_line(line);
        break;
      case State::kChunkSize:
        if (!take_line(bytes, line)) return {};
        take_chunk_size(line);
        break;
      case State::kChunkEnd:
        if (!take_line(bytes, line)) return {};
        state_ = line.empty() ? State::kChunkSize : State::kBroken;
        break;
      case State::kTrailer:
        if (!take_line(bytes, line)) return {};
        if (line.empty()) state_ = State::kComplete;
        break;
      case State::kLengthBody:
      case State::kChunkData: {
        const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(left_, bytes.size()));
        const std::string_view body = bytes.substr(0, size);
        bytes.remove_prefix(size);
        left_ -= size;
        if (left_ == 0) {
          state_ = state_ == State::kChunkData ? State::kChunkEnd : State::kComplete;
        }
        return body;
      }
      case State::kEndlessBody: {
        const std::string_view body = bytes;
        bytes = {};
        return body;
      }
      case State::kComplete:
      case State::kBroken:
        return {};
    }
  }
  return {};
}

}  // namespace latentd::loadtest

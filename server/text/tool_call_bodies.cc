// What stands inside of a call: the three forms that ToolCallFormat::Body names.
#include <algorithm>
#include <utility>

#include "server/text/marks.h"
#include "server/text/tool_call_parser.h"

namespace latentd {
namespace {

constexpr auto kNowhere = std::string_view::npos;
constexpr std::string_view kKeyBegin = "<arg_key>";
constexpr std::string_view kKeyEnd = "</arg_key>";
constexpr std::string_view kValueBegin = "<arg_value>";
constexpr std::string_view kValueEnd = "</arg_value>";

std::string trimmed(std::string_view text) {
  const std::size_t first = std::min(text.find_first_not_of(kWhiteSpace), text.size());
  return std::string(text.substr(first, text.find_last_not_of(kWhiteSpace) + 1 - first));
}

bool is_arguments(std::string_view key) { return key == "arguments" || key == "parameters"; }

}  // namespace

bool ToolCallParser::step_json(Parts& parts) {
  if (state_ == State::kInKey || state_ == State::kInValue) return step_in_json(parts);
  if (!skip_space()) return false;
  const char next = held_.front();
  switch (state_) {
    case State::kOpen:
      if (next != '{') return malformed(parts);
      take(1);
      state_ = State::kKey;
      return true;
    case State::kKey:
      if (next == ',') {
        take(1);
        return true;
      }
      if (next == '}') {
        take(1);
        return end_json_call(parts);
      }
      if (next != '"') return malformed(parts);
      state_ = State::kInKey;
      break;
    case State::kColon:
      if (next != ':') return malformed(parts);
      take(1);
      state_ = State::kValue;
      return true;
    default:  // kValue
      state_ = State::kInValue;
  }
  extent_ = JsonExtent();
  value_.clear();
  return true;
}

bool ToolCallParser::step_in_json(Parts& parts) {
  if (held_.empty()) return false;
  if (state_ == State::kInValue && value_.empty() && is_arguments(key_)) {
    streaming_ = streaming_ || held_.front() == '{';
  }
  value_ += take(extent_.take(held_));
  if (streaming_) add_arguments(parts, std::exchange(value_, {}));
  if (!extent_.done()) return false;
  if (state_ == State::kInKey) {
    key_ = decode_json_string(value_);
    state_ = State::kColon;
    return true;
  }
  state_ = State::kKey;
  if (std::exchange(streaming_, false)) return true;
  return end_json_value(parts);
}

// Of a value that was kept whole.
bool ToolCallParser::end_json_value(Parts& parts) {
  const bool text = value_.starts_with('"');
  if (key_ == "name" && !named_) {
    return text ? begin_named(parts, decode_json_string(value_), {}) : give_up(parts);
  }
  if (!is_arguments(key_)) return true;
  // Some models write the object as a string; null is no arguments.
  if (value_ != "null") add_arguments(parts, text ? decode_json_string(value_) : value_);
  return true;
}

bool ToolCallParser::end_json_call(Parts& parts) {
  if (!named_) return give_up(parts);
  if (!has_arguments_) add_arguments(parts, "{}");
  state_ = State::kTail;
  if (format_.is_bare()) end_call();
  return true;
}

bool ToolCallParser::step_named(Parts& parts) {
  if (state_ == State::kInArguments) {
    if (held_.empty()) return false;
    add_arguments(parts, take(extent_.take(held_)));
    if (!extent_.done()) return false;
    state_ = State::kTail;
    return true;
  }
  const std::size_t end = held_.find(format_.call_end);
  if (state_ == State::kHeader) {
    std::string_view seen = held_;
    const std::size_t after = format_.name_after.empty() ? 0 : seen.find(format_.name_after);
    const std::size_t first =
        after == kNowhere || format_.name_after.empty() ? 0 : after + format_.name_after.size();
    const std::size_t until = seen.find(format_.name_until, first);
    if (until == kNowhere && end == kNowhere) return false;
    const std::string header = trimmed(seen.substr(first, std::min(until, end) - first));
    take(until < end ? until + format_.name_until.size() : end);
    state_ = State::kArguments;
    if (!header.starts_with(format_.id_prefix) || format_.id_prefix.empty()) {
      return begin_named(parts, header.substr(0, name_size(header)), {});
    }
    const std::string name = header.substr(format_.id_prefix.size());
    return begin_named(parts, name.substr(0, name_size(name)), header);
  }
  const std::size_t brace = held_.find('{');  // kArguments
  if (brace == kNowhere && end == kNowhere) return false;
  if (end < brace) {
    add_arguments(parts, "{}");
    state_ = State::kTail;
    return true;
  }
  take(brace);
  extent_ = JsonExtent();
  state_ = State::kInArguments;
  return true;
}

// Of a name that a counter may follow, where identifiers are made so.
std::size_t ToolCallParser::name_size(std::string_view header) const {
  if (format_.id_prefix.empty()) return header.size();
  const std::size_t colon = header.rfind(':');
  const bool counted =
      colon != kNowhere && header.find_first_not_of("0123456789", colon + 1) == kNowhere;
  return counted ? colon : header.size();
}

bool ToolCallParser::step_tags(Parts& parts) {
  switch (state_) {
    case State::kTagName: {
      const std::size_t at = held_.find_first_of("\n<", held_.find_first_not_of(kWhiteSpace));
      if (at == kNowhere) return false;
      state_ = State::kTags;
      return begin_named(parts, trimmed(take(at)), {});
    }
    case State::kTags:
      if (!skip_space() || may_become(held_, kKeyBegin) || may_become(held_, format_.call_end)) {
        return false;
      }
      if (held_.starts_with(kKeyBegin)) {
        take(kKeyBegin.size());
        state_ = State::kTagKey;
      } else {
        add_arguments(parts, has_arguments_ ? "}" : "{}");
        state_ = State::kTail;
      }
      return true;
    case State::kTagKey: {
      const std::size_t at = held_.find(kKeyEnd);
      if (at == kNowhere) return false;
      key_ = trimmed(take(at));
      take(kKeyEnd.size());
      state_ = State::kTagGap;
      return true;
    }
    case State::kTagGap:
      if (!skip_space() || may_become(held_, kValueBegin)) return false;
      if (!held_.starts_with(kValueBegin)) return malformed(parts);
      take(kValueBegin.size());
      state_ = State::kTagValue;
      return true;
    default:
      return step_tag_value(parts);
  }
}

bool ToolCallParser::step_tag_value(Parts& parts) {
  const std::size_t at = held_.find(kValueEnd);
  if (at == kNowhere) return false;
  const std::string value = take(at);
  take(kValueEnd.size());
  const bool is_text = is_string_parameter(tools_, name_, key_);
  std::string pair = (has_arguments_ ? ", " : "{") + encode_json_string(key_) + ": ";
  pair += !is_text && is_json(value) ? trimmed(value) : encode_json_string(value);
  add_arguments(parts, pair);
  state_ = State::kTags;
  return true;
}

bool ToolCallParser::step_whole(Parts& parts) {
  const std::size_t end = held_.find(format_.call_end);
  if (end == kNowhere) return false;
  const std::string block = take(end);
  const auto calls = format_.read(block, tools_);
  if (!calls || calls->empty()) {
    take(format_.call_end.size());
    return give_up(parts);
  }
  for (const WholeCall& call : *calls) {
    begin_call(State::kTail);
    begin_named(parts, call.name, {});
    add_arguments(parts, call.arguments);
  }
  return true;
}

}  // namespace latentd

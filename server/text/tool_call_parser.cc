#include "server/text/tool_call_parser.h"

#include <algorithm>
#include <utility>

#include "server/text/marks.h"

namespace latentd {
namespace {

constexpr auto kNowhere = std::string_view::npos;

bool is_space(std::string_view text) {
  return text.find_first_not_of(kWhiteSpace) == std::string_view::npos;
}

// The first place in `text` of one of two marks, either of which may be empty.
std::size_t find_first(std::string_view text, std::string_view a, std::string_view b) {
  const std::size_t at_a = a.empty() ? kNowhere : text.find(a);
  const std::size_t at_b = b.empty() ? kNowhere : text.find(b);
  return std::min(at_a, at_b);
}

}  // namespace

ToolCallParser::State ToolCallParser::first_state(ToolCallFormat::Body body) {
  switch (body) {
    case ToolCallFormat::Body::kJson:
      return State::kOpen;
    case ToolCallFormat::Body::kNamed:
      return State::kHeader;
    case ToolCallFormat::Body::kTags:
      return State::kTagName;
    case ToolCallFormat::Body::kWhole:
      break;
  }
  return State::kWhole;
}

ToolCallParser::ToolCallParser(const ToolCallFormat& format, std::vector<ToolSignature> tools,
                               std::string id_prefix, bool parallel)
    : format_(format),
      tools_(std::move(tools)),
      id_prefix_(std::move(id_prefix)),
      parallel_(parallel),
      state_(format.is_bare() ? State::kStart : State::kContent) {}

ToolCallParser::Parts ToolCallParser::push(std::string_view text) {
  Parts parts;
  held_ += text;
  while (step(parts)) {
  }
  return parts;
}

ToolCallParser::Parts ToolCallParser::finish() {
  Parts parts;
  if (recording_) give_up(parts);
  if (state_ == State::kContent || state_ == State::kPlain || state_ == State::kStart) {
    add_content(parts, std::exchange(held_, {}));
  }
  if (num_calls_ == 0) parts.content += std::exchange(space_, {});
  held_.clear();
  return parts;
}

bool ToolCallParser::step(Parts& parts) {
  switch (state_) {
    case State::kContent:
      return step_content(parts);
    case State::kStart:
      return step_start(parts);
    case State::kPlain:
      add_content(parts, std::exchange(held_, {}));
      return false;
    case State::kBetween:
      return step_between(parts);
    case State::kTail:
      return step_tail();
    default:
      break;
  }
  switch (format_.body) {
    case ToolCallFormat::Body::kJson:
      return step_json(parts);
    case ToolCallFormat::Body::kNamed:
      return step_named(parts);
    case ToolCallFormat::Body::kTags:
      return step_tags(parts);
    case ToolCallFormat::Body::kWhole:
      return step_whole(parts);
  }
  return false;
}

bool ToolCallParser::step_content(Parts& parts) {
  const std::size_t at = find_first(held_, format_.section_begin, format_.call_begin);
  if (at == kNowhere) {
    const std::size_t begun =
        std::max(begun_mark(held_, format_.section_begin), begun_mark(held_, format_.call_begin));
    add_content(parts, take(held_.size() - begun));
    return false;
  }
  add_content(parts, take(at));
  record();
  state_ = State::kBetween;
  const bool section = !format_.section_begin.empty() && held_.starts_with(format_.section_begin);
  if (section) take(format_.section_begin.size());
  return true;
}

bool ToolCallParser::step_start(Parts& parts) {
  const std::size_t first = std::min(held_.find_first_not_of(kWhiteSpace), held_.size());
  const std::string_view rest = std::string_view(held_).substr(first);
  if (rest.empty() || may_become(rest, format_.section_begin)) return false;
  const bool tagged = !format_.section_begin.empty() && rest.starts_with(format_.section_begin);
  if (!tagged && rest.front() != '{' && rest.front() != '[') {
    state_ = State::kPlain;
    return true;
  }
  add_content(parts, take(first));
  record();
  if (tagged) take(format_.section_begin.size());
  state_ = State::kBetween;
  return true;
}

bool ToolCallParser::step_between(Parts& parts) {
  const std::string_view skipped = format_.is_bare() ? " \t\r\n,;[]" : kWhiteSpace;
  take(std::min(held_.find_first_not_of(skipped), held_.size()));
  if (held_.empty()) return false;
  if (format_.is_bare()) {
    if (held_.front() != '{') return give_up(parts);
    if (!recording_) record();
    begin_call(State::kOpen);
    return true;
  }
  if (may_become(held_, format_.call_begin) || may_become(held_, format_.section_end)) return false;
  if (held_.starts_with(format_.call_begin)) {
    if (!recording_) record();
    take(format_.call_begin.size());
    begin_call(first_state(format_.body));
    return true;
  }
  if (!format_.section_end.empty() && held_.starts_with(format_.section_end)) {
    take(format_.section_end.size());
    recording_ = false;
    state_ = State::kContent;
    return true;
  }
  return give_up(parts);
}

bool ToolCallParser::step_tail() {
  if (format_.is_bare()) {  // what was broken stays so to the end
    held_.clear();
    return false;
  }
  const std::size_t at = find_first(held_, format_.call_end, format_.section_end);
  if (at == kNowhere) {
    const std::size_t begun =
        std::max(begun_mark(held_, format_.call_end), begun_mark(held_, format_.section_end));
    held_.erase(0, held_.size() - begun);
    return false;
  }
  held_.erase(0, at);
  if (held_.starts_with(format_.call_end)) held_.erase(0, format_.call_end.size());
  end_call();
  return true;
}

bool ToolCallParser::skip_space() {
  take(std::min(held_.find_first_not_of(kWhiteSpace), held_.size()));
  return !held_.empty();
}

std::string ToolCallParser::take(std::size_t size) {
  std::string taken = held_.substr(0, size);
  held_.erase(0, size);
  if (recording_) raw_ += taken;
  return taken;
}

void ToolCallParser::record() {
  recording_ = true;
  raw_ = std::exchange(space_, {});
}

bool ToolCallParser::is_known(std::string_view name) const {
  return std::ranges::any_of(tools_, [&](const ToolSignature& tool) { return tool.name == name; });
}

void ToolCallParser::begin_call(State state) {
  state_ = state;
  named_ = has_arguments_ = false;
  arguments_.clear();
  value_.clear();
}

void ToolCallParser::end_call() {
  const bool more = format_.is_bare() || !format_.section_begin.empty();
  state_ = more ? State::kBetween : State::kContent;
}

bool ToolCallParser::begin_named(Parts& parts, const std::string& name, std::string id) {
  if (name.empty() || name.find_first_of(kWhiteSpace) != kNowhere) return give_up(parts);
  if (format_.is_bare() && !is_known(name)) return give_up(parts);
  recording_ = false;
  raw_.clear();
  named_ = true;
  name_ = name;
  const int index = num_calls_++;
  if (id.empty()) id = id_prefix_ + std::to_string(index);
  if (parallel_ || index == 0) parts.calls.push_back({index, std::move(id), name, {}});
  if (!arguments_.empty()) add_arguments(parts, std::exchange(arguments_, {}));
  return true;
}

bool ToolCallParser::give_up(Parts& parts) {
  recording_ = false;
  state_ = format_.is_bare() ? State::kPlain : State::kContent;
  add_content(parts, std::exchange(raw_, {}));
  return true;
}

bool ToolCallParser::malformed(Parts& parts) {
  if (!named_) return give_up(parts);
  state_ = State::kTail;
  return true;
}

void ToolCallParser::add_content(Parts& parts, std::string_view text) {
  if (is_space(text)) {
    space_ += text;
    return;
  }
  parts.content += std::exchange(space_, {});
  const std::size_t end = text.find_last_not_of(kWhiteSpace) + 1;
  parts.content += text.substr(0, end);
  space_ = text.substr(end);
}

void ToolCallParser::add_arguments(Parts& parts, std::string_view text) {
  if (text.empty()) return;
  has_arguments_ = true;
  if (!named_) {
    arguments_ += text;
    return;
  }
  const int index = num_calls_ - 1;
  if (!parallel_ && index > 0) return;
  if (parts.calls.empty() || parts.calls.back().index != index) {
    parts.calls.push_back({index, {}, {}, {}});
  }
  parts.calls.back().arguments += text;
}

}  // namespace latentd

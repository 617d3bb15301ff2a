#include "server/text/thought_splitter.h"

#include <algorithm>
#include <utility>

#include "server/text/marks.h"

namespace latentd {
namespace {

constexpr std::string_view kOpen = "<think>";
constexpr std::string_view kClose = "</think>";

std::string_view without_trailing_space(std::string_view text) {
  return text.substr(0, text.find_last_not_of(kWhiteSpace) + 1);
}

int characters(std::string_view text) {
  return static_cast<int>(std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

}  // namespace

ThoughtSplitter::ThoughtSplitter(std::string_view prompt) {
  const std::string_view end = without_trailing_space(prompt);
  if (end.ends_with(kOpen)) state_ = State::kThinking;
  if (end.ends_with(kClose)) state_ = State::kAnswering;
}

ThoughtSplitter::Parts ThoughtSplitter::push(std::string_view text) {
  Parts parts;
  held_ += text;
  if (state_ != State::kAnswering) thought_characters_ += characters(text);
  if (state_ == State::kUndecided) {
    const std::size_t first = std::min(held_.find_first_not_of(kWhiteSpace), held_.size());
    const std::string_view rest = std::string_view(held_).substr(first);
    if (kOpen.starts_with(rest) && rest.size() < kOpen.size()) return parts;
    if (rest.starts_with(kOpen)) {
      held_.erase(0, first + kOpen.size());
      state_ = State::kThinking;
    } else {
      state_ = State::kAnswering;
      thought_characters_ = 0;
    }
  }
  if (state_ == State::kThinking) {
    const std::size_t close = held_.find(kClose);
    if (close == std::string::npos) {
      const std::size_t sure = held_.size() - begun_mark(held_, kClose);
      parts.thoughts = held_.substr(0, sure);
      held_.erase(0, sure);
      return parts;
    }
    parts.thoughts = held_.substr(0, close);
    held_.erase(0, close + kClose.size());
    state_ = State::kAnswering;
    thought_characters_ -= characters(held_);
  }
  parts.answer = std::exchange(held_, {});
  return parts;
}

ThoughtSplitter::Parts ThoughtSplitter::finish() {
  Parts parts;
  (state_ == State::kThinking ? parts.thoughts : parts.answer) = std::exchange(held_, {});
  return parts;
}

}  // namespace latentd

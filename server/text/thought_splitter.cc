#include "server/text/thought_splitter.h"

#include <algorithm>
#include <utility>

#include "server/text/marks.h"

namespace latentd {
namespace {

constexpr ThoughtMarks kKnownMarks[] = {kThinkMarks, {"<|thought_start|>", "<|thought_end|>"}};

std::string_view without_trailing_space(std::string_view text) {
  return text.substr(0, text.find_last_not_of(kWhiteSpace) + 1);
}

int characters(std::string_view text) {
  return static_cast<int>(std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

}  // namespace

const ThoughtMarks* thought_marks_of(std::string_view chat_template) {
  for (const ThoughtMarks& marks : kKnownMarks) {
    if (chat_template.find(marks.close) != std::string_view::npos) return &marks;
  }
  return nullptr;
}

ThoughtSplitter::ThoughtSplitter(std::string_view prompt, const ThoughtMarks& marks)
    : marks_(marks) {
  const std::string_view end = without_trailing_space(prompt);
  if (end.ends_with(marks_.open)) state_ = State::kThinking;
  if (end.ends_with(marks_.close)) state_ = State::kAnswering;
}

ThoughtSplitter::Parts ThoughtSplitter::push(std::string_view text) {
  Parts parts;
  held_ += text;
  if (state_ != State::kAnswering) thought_characters_ += characters(text);
  if (state_ == State::kUndecided) {
    const std::size_t first = std::min(held_.find_first_not_of(kWhiteSpace), held_.size());
    const std::string_view rest = std::string_view(held_).substr(first);
    if (may_become(rest, marks_.open)) return parts;
    if (rest.starts_with(marks_.open)) {
      held_.erase(0, first + marks_.open.size());
      state_ = State::kThinking;
    } else {
      state_ = State::kAnswering;
      thought_characters_ = 0;
    }
  }
  if (state_ == State::kThinking) {
    const std::size_t close = held_.find(marks_.close);
    if (close == std::string::npos) {
      const std::size_t sure = held_.size() - begun_mark(held_, marks_.close);
      parts.thoughts = held_.substr(0, sure);
      held_.erase(0, sure);
      return parts;
    }
    parts.thoughts = held_.substr(0, close);
    held_.erase(0, close + marks_.close.size());
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

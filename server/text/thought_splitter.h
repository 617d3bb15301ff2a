// ThoughtSplitter: tells the thoughts of a model that thinks aloud, `<think> ... </think>` or
// `<|thought_start|> ... <|thought_end|>` (MiniCPM3), from its answer, wherever chunks begin and
// end.
//
// A text that does not begin with the first mark (after white space) is an answer from its first
// character on, unless the prompt has opened the thoughts already. Only the first pair counts; the
// marks themselves are never shown. Thoughts that never close are thoughts to the end.
//
// Contract: one stream, one thread. All that push and finish returned is the whole text without its
// marks.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace latentd {

struct ThoughtMarks {
  std::string_view open;
  std::string_view close;
};

inline constexpr ThoughtMarks kThinkMarks = {"<think>", "</think>"};

// Null when the chat template tells no thoughts from answers: the model does not think aloud.
const ThoughtMarks* thought_marks_of(std::string_view chat_template);

class ThoughtSplitter final {
 public:
  struct Parts {
    std::string thoughts;
    std::string answer;
  };

  // `prompt` is what the text goes on from: it may have opened or closed the thoughts.
  explicit ThoughtSplitter(std::string_view prompt, const ThoughtMarks& marks = kThinkMarks);

  Parts push(std::string_view text);

  // Characters before the answer, marks included, once it has begun; all until then.
  int thought_characters() const { return thought_characters_; }

  // What was held back because it could have become a mark.
  Parts finish();

 private:
  enum class State : std::uint8_t { kUndecided, kThinking, kAnswering };

  ThoughtMarks marks_;
  State state_ = State::kUndecided;
  std::string held_;
  int thought_characters_ = 0;
};

}  // namespace latentd

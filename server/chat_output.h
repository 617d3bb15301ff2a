// ChatOutput: what a conversation's answer consists of, told apart as its text arrives: thoughts,
// content and calls of tools. What both doors show of a choice.
//
// A model that thinks aloud does so before it answers; calls are looked for in its answer alone. An
// answer that a schema holds has no thoughts: its first byte belongs to the schema.
//
// Contract: one choice, one thread. push takes the text of its deltas in order; finish what was
// held back.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/generation_request.h"
#include "server/text/thought_splitter.h"
#include "server/text/tool_call_parser.h"

namespace latentd {

class ChatOutput final {
 public:
  struct Parts {
    std::string thoughts;
    std::string content;
    std::vector<ToolCallDelta> calls;

    bool empty() const { return thoughts.empty() && content.empty() && calls.empty(); }
    // Adds what comes behind; parts of one call become one.
    void append(Parts later);
  };

  // `prompt` is the rendered conversation. Of a request without one, all text is content.
  ChatOutput(const GenerationRequest& request, const ServingModel& model, std::string_view prompt);

  Parts push(std::string_view text);
  Parts finish();

  // The model thinks aloud in answers like this one.
  bool reasons() const { return splitter_.has_value(); }
  // Characters of the text before the answer, as ThoughtSplitter counts them.
  int thought_characters() const { return splitter_ ? splitter_->thought_characters() : 0; }
  bool has_calls() const { return calls_ && calls_->num_calls() > 0; }

 private:
  Parts split(ThoughtSplitter::Parts parts);

  std::optional<ThoughtSplitter> splitter_;
  std::optional<ToolCallParser> calls_;
};

// Special tokens that have to be seen in the text for its thoughts and calls to be found: see
// Detokenizer.
std::vector<TokenId> marks_to_keep(const GenerationRequest& request, const ServingModel& model);

}  // namespace latentd

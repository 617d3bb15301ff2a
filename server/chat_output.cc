#include "server/chat_output.h"

#include <utility>

#include "server/access_log.h"

namespace latentd {
namespace {

// Null when nothing in the text is a call.
const ToolCallFormat* format_of(const GenerationRequest& request, const ServingModel& model) {
  switch (request.tool_use.choice) {
    case ToolUse::Choice::kNone:
      break;
    case ToolUse::Choice::kForced:
      return &forced_call_format();
    case ToolUse::Choice::kAuto:
      // What a response_format holds is its document, and no call.
      if (request.format == OutputFormat::kText && model.chat != nullptr) {
        return model.chat->tool_calls();
      }
      break;
  }
  return nullptr;
}

// Null when the answer has no thoughts.
const ThoughtMarks* thoughts_of(const GenerationRequest& request, const ServingModel& model) {
  const bool held =
      request.format != OutputFormat::kText || request.tool_use.choice == ToolUse::Choice::kForced;
  return held || model.chat == nullptr ? nullptr : model.chat->thoughts();
}

}  // namespace

void ChatOutput::Parts::append(Parts later) {
  thoughts += later.thoughts;
  content += later.content;
  for (ToolCallDelta& call : later.calls) {
    if (!calls.empty() && calls.back().index == call.index) {
      calls.back().arguments += call.arguments;
    } else {
      calls.push_back(std::move(call));
    }
  }
}

ChatOutput::ChatOutput(const GenerationRequest& request, const ServingModel& model,
                       std::string_view prompt) {
  if (const ThoughtMarks* marks = thoughts_of(request, model)) splitter_.emplace(prompt, *marks);
  if (const ToolCallFormat* format = format_of(request, model)) {
    calls_.emplace(*format, request.tool_use.signatures(), request_id_or_new({}, "call_") + "_",
                   request.tool_use.parallel);
  }
}

ChatOutput::Parts ChatOutput::split(ThoughtSplitter::Parts parts) {
  Parts out{std::move(parts.thoughts), {}, {}};
  if (!calls_) {
    out.content = std::move(parts.answer);
    return out;
  }
  ToolCallParser::Parts answer = calls_->push(parts.answer);
  out.content = std::move(answer.content);
  out.calls = std::move(answer.calls);
  return out;
}

ChatOutput::Parts ChatOutput::push(std::string_view text) {
  return split(splitter_ ? splitter_->push(text) : ThoughtSplitter::Parts{{}, std::string(text)});
}

ChatOutput::Parts ChatOutput::finish() {
  Parts out = split(splitter_ ? splitter_->finish() : ThoughtSplitter::Parts{});
  if (!calls_) return out;
  ToolCallParser::Parts last = calls_->finish();
  out.append({{}, std::move(last.content), std::move(last.calls)});
  return out;
}

std::vector<TokenId> marks_to_keep(const GenerationRequest& request, const ServingModel& model) {
  std::vector<std::string_view> marks;
  if (const ToolCallFormat* format = format_of(request, model)) marks = marks_of(*format);
  if (const ThoughtMarks* thoughts = thoughts_of(request, model);
      thoughts != nullptr && request.is_conversation) {
    marks.insert(marks.end(), {thoughts->open, thoughts->close});
  }
  std::vector<TokenId> tokens;
  for (const std::string_view mark : marks) {
    if (const auto token = model.tokenizer->token_to_id(mark)) tokens.push_back(*token);
  }
  return tokens;
}

}  // namespace latentd

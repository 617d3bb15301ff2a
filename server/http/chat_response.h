// ChatResponse: updates of a generation as OpenAI's chat.completion objects, whole or as
// chat.completion.chunk events.
//
// A choice's first event has the role and no content, its last an empty delta and the
// finish_reason. Of models that think aloud, thoughts are `reasoning_content`; calls of tools are
// `tool_calls`, in a stream each with its index, its id and name first and then its arguments as
// they come.
//
// Contract: one request, one thread. `model` outlives it.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "server/chat_output.h"
#include "server/http/chat_request.h"
#include "server/http/response.h"

namespace latentd {

class ChatResponse final : public Response {
 public:
  ChatResponse(const ChatRequest& request, const PreparedGeneration& prepared,
               const ServingModel& model, std::string id);

  bool streams() const override { return output_.stream; }
  void append_events(const GenerationUpdate& update, std::string& out) override;
  void collect(GenerationUpdate update) override;
  std::string body() override;

 private:
  struct Choice {
    explicit Choice(ChatOutput output_in) : output(std::move(output_in)) {}

    ChatOutput output;
    bool begun = false;       // its role was sent
    ChatOutput::Parts parts;  // not sent yet, like all below
    std::vector<TokenPiece> tokens;
    std::vector<TokenPiece> prompt_tokens;
    std::optional<Finish> finish;
  };

  Choice& merge(const ChoiceDelta& delta);
  void append_choice(int index, Choice& choice, const Usage& usage, std::string& out) const;
  void append_event(nlohmann::ordered_json choice, const Usage& usage, std::string& out) const;
  nlohmann::ordered_json head(const char* object) const;
  nlohmann::ordered_json whole_choice(int index, const Choice& choice) const;
  nlohmann::ordered_json logprobs_of(const std::vector<TokenPiece>& tokens) const;

  const ServingModel& model_;
  const std::string id_;
  const OutputFields output_;
  const bool logprobs_;
  const bool prompt_logprobs_;
  const std::int64_t created_;
  std::vector<TokenId> prompt_tokens_;  // when they are to be returned
  std::vector<Choice> choices_;
  Usage usage_;
};

}  // namespace latentd

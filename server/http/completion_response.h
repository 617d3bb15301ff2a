// CompletionResponse: updates of a generation as OpenAI's text_completion objects, whole or as
// server-sent events.
//
// Logprobs have the legacy shape: tokens, token_logprobs, top_logprobs, text_offset, one entry a
// token. A token that is no whole text is written "bytes:\xe2\x82". With echo and logprobs the
// prompt's tokens come first, the very first with null.
//
// Contract: one request, one thread. `model` outlives it.
#pragma once

#include <string>
#include <vector>

#include "server/generation.h"
#include "server/http/completion_request.h"
#include "server/http/response.h"

namespace latentd {

class CompletionResponse final : public Response {
 public:
  CompletionResponse(const CompletionRequest& request, const PreparedGeneration& prepared,
                     const ServingModel& model, std::string id);

  bool streams() const override { return stream_; }
  void append_events(const GenerationUpdate& update, std::string& out) override;
  void collect(GenerationUpdate update) override;
  std::string body() override;

 private:
  struct PromptText {
    std::string text;
    std::vector<TokenId> tokens;
    std::vector<int> offsets;  // characters before each token
    int num_chars = 0;
  };
  struct Choice {
    std::size_t prompt = 0;
    bool begun = false;   // something of it was rendered: the prompt was echoed, if it had to be
    ChoiceDelta pending;  // not rendered yet
  };
  struct Chunk;  // a choice as JSON

  void add_prompt(const Prompt& prompt, const std::vector<TokenId>& tokens);
  void merge(ChoiceDelta delta);
  void keep_best();
  bool is_due(const Choice& choice) const;
  Chunk render(Choice& choice) const;

  const ServingModel& model_;
  const std::string id_;
  const bool stream_;
  const bool include_usage_;
  const bool continuous_usage_;
  const bool echo_;
  const bool return_token_ids_;
  const bool logprobs_;
  const bool prompt_logprobs_;  // vLLM's, beside the legacy ones
  const bool cost_;
  const int shown_;  // choices of each prompt
  const bool skip_special_tokens_;
  const std::int64_t created_;
  std::vector<PromptText> prompts_;
  std::vector<Choice> choices_;
  Usage usage_;
};

}  // namespace latentd

#include "server/grpc/generate_reactor.h"

#include <utility>
#include <vector>

#include "server/grpc/stream_reactor.h"

namespace latentd {
namespace {

class V1Dialect final {
 public:
  using Message = v1::GenerateRequest;
  using Response = v1::GenerateResponse;
  static constexpr std::string_view kMethod = "Generate";

  Result<GenerationRequest> read(const Message& message, const ServingModel& model) {
    shows_prompt_ = message.output().return_prompt_token_ids();
    chats_ = message.has_chat();
    return to_generation_request(message, model.default_max_tokens);
  }

  void begin(const PreparedGeneration& prepared, const ServingModel& model,
             const std::string& request_id) {
    model_ = &model;
    request_id_ = request_id;
    logprobs_ = prepared.request.logprobs >= 0;
    for (int choice = 0; choice < prepared.num_choices(); ++choice) {
      if (chats_) {
        outputs_.emplace_back(prepared.request, model,
                              std::get<std::string>(prepared.request.prompts.front()));
      }
      if (!shows_prompt_) continue;
      Response first;
      first.set_index(choice);
      const auto& tokens = prepared.inputs.front().tokens;
      first.mutable_prompt_token_ids()->Assign(tokens.begin(), tokens.end());
      openings_.push_back(std::move(first));
    }
  }

  std::string_view operation() const { return chats_ ? "chat" : "text_completion"; }

  std::vector<Response> render(const GenerationUpdate& update) {
    std::vector<Response> out = std::exchange(openings_, {});
    for (const ChoiceDelta& delta : update.choices) {
      ChatOutput* output =
          outputs_.empty() ? nullptr : &outputs_[static_cast<std::size_t>(delta.choice)];
      out.push_back(to_response(delta, logprobs_, *model_->tokenizer, output));
    }
    if (update.done && update.error.ok()) {
      if (out.empty()) out.emplace_back();
      *out.back().mutable_usage() = to_usage(update.usage);
    }
    for (Response& response : out) response.set_request_id(request_id_);
    return out;
  }

 private:
  bool shows_prompt_ = false;
  bool chats_ = false;
  bool logprobs_ = false;
  const ServingModel* model_ = nullptr;
  std::string request_id_;
  std::vector<ChatOutput> outputs_;  // of a chat, one a choice
  std::vector<Response> openings_;   // not sent yet
};

}  // namespace

grpc::ServerWriteReactor<v1::GenerateResponse>* start_generate(Frontend& frontend,
                                                               grpc::CallbackServerContext& context,
                                                               const v1::GenerateRequest& message) {
  return StreamReactor<V1Dialect>::start(frontend, context, message);
}

}  // namespace latentd

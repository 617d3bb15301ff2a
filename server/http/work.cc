#include "server/http/work.h"

#include "server/http/chat_response.h"
#include "server/http/completion_response.h"
#include "server/http/responses_response.h"
#include "server/http/tokenize_routes.h"

namespace latentd {
namespace {

Result<Work> read_completion(std::string_view body, const ServingModel& model,
                             const std::string& request_id) {
  LATENTD_ASSIGN_OR_RETURN(CompletionRequest request, parse_completion(body));
  const bool chooses = request.n != request.generation.n;
  auto tried = prepare(std::move(request.generation), model);
  if (!tried.ok()) {
    const Status& status = tried.status();
    const bool renamed = chooses && status.field() == "n";
    return Status(status.code(), status.message()).with_field(renamed ? "best_of" : status.field());
  }
  PreparedGeneration prepared = *std::move(tried);
  auto response =
      std::make_unique<CompletionResponse>(request, prepared, model, "cmpl-" + request_id);
  return Work(GenerationWork{std::move(prepared), std::move(response)});
}

Result<Work> read_chat(std::string_view body, const ServingModel& model,
                       const std::string& request_id) {
  LATENTD_ASSIGN_OR_RETURN(const ChatRequest request, parse_chat(body));
  LATENTD_ASSIGN_OR_RETURN(auto prepared, prepare_chat(request, model));
  auto response =
      std::make_unique<ChatResponse>(request, prepared, model, "chatcmpl-" + request_id);
  return Work(GenerationWork{std::move(prepared), std::move(response)});
}

Result<Work> read_responses(std::string_view body, const ServingModel& model,
                            const std::string& request_id) {
  LATENTD_ASSIGN_OR_RETURN(const ResponsesRequest request, parse_responses(body));
  LATENTD_ASSIGN_OR_RETURN(auto prepared, prepare_responses(request, model));
  auto response = make_responses_response(request, prepared, model, "resp_" + request_id);
  return Work(GenerationWork{std::move(prepared), std::move(response)});
}

}  // namespace

Result<Work> read_work(Route route, std::string_view body, const ServingModel& model,
                       const std::string& request_id) {
  switch (route) {
    case Route::kCompletions:
      return read_completion(body, model, request_id);
    case Route::kChatCompletions:
      return read_chat(body, model, request_id);
    case Route::kResponses:
      return read_responses(body, model, request_id);
    case Route::kTokenize: {
      LATENTD_ASSIGN_OR_RETURN(HttpReply reply, answer_tokenize(body, model));
      return Work(std::move(reply));
    }
    case Route::kDetokenize: {
      LATENTD_ASSIGN_OR_RETURN(HttpReply reply, answer_detokenize(body, model));
      return Work(std::move(reply));
    }
    default:
      break;
  }
  return Status(StatusCode::kInternal, "this route takes no body");
}

}  // namespace latentd

#include "server/grpc/generation_service.h"

#include <latentd/v1/generation.grpc.pb.h>

#include "server/grpc/call.h"
#include "server/grpc/chat_convert.h"
#include "server/grpc/convert.h"
#include "server/grpc/generate_reactor.h"
#include "server/grpc/unary_call.h"

namespace latentd {
namespace {

class GenerationService final : public v1::Generation::CallbackService {
 public:
  explicit GenerationService(Frontend& frontend) : frontend_(frontend) {}

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* context, const v1::GenerateRequest* request) override {
    return start_generate(frontend_, *context, *request);
  }

  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override {
    UnaryCall call(*context, "Tokenize");
    if (Status status = call.authenticate(frontend_); !status.ok()) return call.end(status);
    auto slot = frontend_.reserve(call.caller);
    if (!slot.ok()) return call.end(slot.status());
    if (Status status = check_model(request->model()); !status.ok()) return call.end(status);
    // The messages live until the reactor's Finish.
    frontend_.post([this, call, slot = *std::move(slot), request, response]() mutable {
      call.end(tokenize(*request, *response));
    });
    return call.reactor;
  }

  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override {
    UnaryCall call(*context, "Detokenize");
    if (Status status = call.authenticate(frontend_); !status.ok()) return call.end(status);
    auto slot = frontend_.reserve(call.caller);
    if (!slot.ok()) return call.end(slot.status());
    if (Status status = check_model(request->model()); !status.ok()) return call.end(status);
    frontend_.post([this, call, slot = *std::move(slot), request, response]() mutable {
      call.end(detokenize(*request, *response));
    });
    return call.reactor;
  }

  grpc::ServerUnaryReactor* GetLoad(grpc::CallbackServerContext* context,
                                    const v1::GetLoadRequest* /*request*/,
                                    v1::GetLoadResponse* response) override {
    UnaryCall call(*context, "GetLoad");
    if (Status status = call.authenticate(frontend_); !status.ok()) return call.end(status);
    *response = to_load_response(frontend_);
    return call.end(ok_status());
  }

  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const v1::GetModelRequest* request,
                                     v1::GetModelResponse* response) override {
    UnaryCall call(*context, "GetModel");
    if (Status status = call.authenticate(frontend_); !status.ok()) return call.end(status);
    if (frontend_.model() == nullptr) {
      return call.end(Status(StatusCode::kUnavailable, "the model is loading"));
    }
    if (Status status = check_model(request->model()); !status.ok()) return call.end(status);
    *response = to_model_response(*frontend_.model());
    return call.end(ok_status());
  }

  grpc::ServerUnaryReactor* Abort(grpc::CallbackServerContext* context,
                                  const v1::AbortRequest* request,
                                  v1::AbortResponse* response) override {
    UnaryCall call(*context, "Abort");
    if (Status status = call.authenticate(frontend_); !status.ok()) return call.end(status);
    if (request->request_id().empty()) {
      return call.end(invalid_argument("request_id", "is required"));
    }
    response->set_aborted(frontend_.abort(call.caller, request->request_id()));
    return call.end(ok_status());
  }

 private:
  Status check_model(const std::string& name) const {
    return check_model_name(name, *frontend_.model());
  }

  // Both on the text pool.
  Status tokenize(const v1::TokenizeRequest& request, v1::TokenizeResponse& response) const {
    const ServingModel& model = *frontend_.model();
    std::string text = request.text();
    if (request.has_chat()) {
      LATENTD_ASSIGN_OR_RETURN(const ChatRead chat, read_chat(request.chat()));
      LATENTD_ASSIGN_OR_RETURN(text, render_chat(chat.prompt, model));
    }
    const bool special = !request.has_chat() && !request.no_special_tokens();
    const auto tokens = model.tokenizer->encode(text, special);
    response.mutable_token_ids()->Assign(tokens.begin(), tokens.end());
    return ok_status();
  }

  Status detokenize(const v1::DetokenizeRequest& request, v1::DetokenizeResponse& response) const {
    const ServingModel& model = *frontend_.model();
    for (const TokenId token : request.token_ids()) {
      LATENTD_RETURN_IF_ERROR(check_token_id("token_ids", token, model));
    }
    response.set_text(model.tokenizer->decode(
        {request.token_ids().begin(), request.token_ids().end()}, request.skip_special_tokens()));
    return ok_status();
  }

  Frontend& frontend_;
};

}  // namespace

std::unique_ptr<grpc::Service> make_generation_service(Frontend& frontend) {
  return std::make_unique<GenerationService>(frontend);
}

}  // namespace latentd

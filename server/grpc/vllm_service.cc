#include "server/grpc/vllm_service.h"

#include <vllm/grpc/engine.grpc.pb.h>

#include <utility>
#include <vector>

#include "server/grpc/kv_events.h"
#include "server/grpc/stream_reactor.h"
#include "server/grpc/tokenizer_stream.h"
#include "server/grpc/unary_call.h"
#include "server/grpc/vllm_convert.h"

namespace latentd {
namespace {

class VllmDialect final {
 public:
  using Message = vllm_engine::GenerateRequest;
  using Response = vllm_engine::GenerateResponse;
  static constexpr std::string_view kMethod = "VllmEngine/Generate";

  Result<GenerationRequest> read(const Message& message, const ServingModel& model) {
    streams_ = message.stream();
    return to_generation_request(message, model);
  }

  void begin(const PreparedGeneration& prepared, const ServingModel& /*model*/,
             const std::string& /*request_id*/) {
    for (int choice = 0; choice < prepared.num_choices(); ++choice) {
      choices_.emplace_back(choice, prepared.request, prepared.inputs.front().tokens);
    }
  }

  static std::string_view operation() { return "text_completion"; }

  std::vector<Response> render(const GenerationUpdate& update) {
    std::vector<Response> out;
    for (const ChoiceDelta& delta : update.choices) {
      VllmChoice& choice = choices_[static_cast<std::size_t>(delta.choice)];
      choice.keep(delta);
      if (Response chunk;
          streams_ && choice.fill_chunk(delta, update.usage, *chunk.mutable_chunk())) {
        out.push_back(std::move(chunk));
      }
      if (!delta.finish) continue;
      choice.fill_complete(*delta.finish, update.usage, *out.emplace_back().mutable_complete());
    }
    return out;
  }

 private:
  bool streams_ = false;
  std::vector<VllmChoice> choices_;
};

class VllmService final : public vllm_engine::VllmEngine::CallbackService {
 public:
  explicit VllmService(Frontend& frontend) : frontend_(frontend) {}

  grpc::ServerWriteReactor<vllm_engine::GenerateResponse>* Generate(
      grpc::CallbackServerContext* context, const vllm_engine::GenerateRequest* request) override {
    return StreamReactor<VllmDialect>::start(frontend_, *context, *request);
  }

  grpc::ServerUnaryReactor* Abort(grpc::CallbackServerContext* context,
                                  const vllm_engine::AbortRequest* request,
                                  vllm_engine::AbortResponse* /*response*/) override {
    UnaryCall call(*context, "VllmEngine/Abort");
    if (Status status = call.authenticate(frontend_); !status.ok()) return call.end(status);
    for (const std::string& id : request->request_ids()) frontend_.abort(call.caller, id);
    return call.end(ok_status());
  }

  grpc::ServerUnaryReactor* HealthCheck(grpc::CallbackServerContext* context,
                                        const vllm_engine::HealthCheckRequest* /*request*/,
                                        vllm_engine::HealthCheckResponse* response) override {
    UnaryCall call(*context, "VllmEngine/HealthCheck");
    response->set_healthy(frontend_.ready());
    response->set_message(std::string(server_state_name(frontend_.state())));
    return call.end(ok_status());
  }

  grpc::ServerUnaryReactor* GetModelInfo(grpc::CallbackServerContext* context,
                                         const vllm_engine::GetModelInfoRequest* /*request*/,
                                         vllm_engine::GetModelInfoResponse* response) override {
    UnaryCall call(*context, "VllmEngine/GetModelInfo");
    if (Status status = call.authenticate(frontend_); !status.ok()) return call.end(status);
    if (frontend_.model() == nullptr) {
      return call.end(Status(StatusCode::kUnavailable, "the model is loading"));
    }
    *response = to_model_info(*frontend_.model());
    return call.end(ok_status());
  }

  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* context,
                                          const vllm_engine::GetServerInfoRequest* /*request*/,
                                          vllm_engine::GetServerInfoResponse* response) override {
    UnaryCall call(*context, "VllmEngine/GetServerInfo");
    if (Status status = call.authenticate(frontend_); !status.ok()) return call.end(status);
    *response = to_server_info(frontend_);
    return call.end(ok_status());
  }

  grpc::ServerUnaryReactor* GetLoads(grpc::CallbackServerContext* context,
                                     const vllm_engine::GetLoadsRequest* /*request*/,
                                     vllm_engine::GetLoadsResponse* response) override {
    UnaryCall call(*context, "VllmEngine/GetLoads");
    if (Status status = call.authenticate(frontend_); !status.ok()) return call.end(status);
    *response = to_loads(frontend_);
    return call.end(ok_status());
  }

  grpc::ServerWriteReactor<smg_common::GetTokenizerChunk>* GetTokenizer(
      grpc::CallbackServerContext* context,
      const smg_common::GetTokenizerRequest* /*request*/) override {
    return stream_tokenizer(frontend_, archive_, *context);
  }

  grpc::ServerWriteReactor<smg_common::KvEventBatch>* SubscribeKvEvents(
      grpc::CallbackServerContext* context,
      const smg_common::SubscribeKvEventsRequest* request) override {
    return subscribe_kv_events(frontend_, *context, *request);
  }

 private:
  Frontend& frontend_;
  TokenizerArchive archive_;
};

}  // namespace

std::unique_ptr<grpc::Service> make_vllm_service(Frontend& frontend) {
  return std::make_unique<VllmService>(frontend);
}

}  // namespace latentd

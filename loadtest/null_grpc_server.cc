#include "loadtest/null_grpc_server.h"

#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <utility>

#include "latentd/v1/generation.grpc.pb.h"

namespace latentd::loadtest {
namespace {

using WallTime = std::chrono::system_clock::time_point;  // what gRPC's alarms take

WallTime::duration milliseconds(double value) {
  return std::chrono::duration_cast<WallTime::duration>(
      std::chrono::duration<double, std::milli>(value));
}

// Its calls come one after the other: an alarm, then the write that it led to. Deletes itself when
// gRPC is done with it.
class Stream final : public grpc::ServerWriteReactor<v1::GenerateResponse> {
 public:
  Stream(const NullServerOptions& options, const v1::GenerateRequest& request)
      : max_tokens_(std::max(1, static_cast<int>(request.stopping().max_tokens()))),
        prompt_tokens_(request.token_ids().ids_size()),
        gap_(options.tokens_per_s > 0.0 ? milliseconds(1e3 / options.tokens_per_s)
                                        : WallTime::duration::zero()),
        due_(std::chrono::system_clock::now() + milliseconds(options.first_token_ms)) {
    wait();
  }

  void OnWriteDone(bool ok) override {
    if (!ok || sent_ == max_tokens_ || left_.load()) {
      return Finish(ok ? grpc::Status::OK : grpc::Status::CANCELLED);
    }
    due_ += gap_;
    wait();
  }
  void OnCancel() override { left_.store(true); }
  void OnDone() override { delete this; }

 private:
  void wait() {
    alarm_.Set(due_, [this](bool /*ok*/) { write(); });
  }

  void write() {
    if (left_.load()) return Finish(grpc::Status::CANCELLED);
    response_.Clear();
    response_.add_token_ids(sent_);
    response_.set_text(fmt::format(" {}", sent_));
    if (++sent_ == max_tokens_) {
      response_.set_finish_reason(v1::FINISH_REASON_LENGTH);
      response_.mutable_usage()->set_prompt_tokens(prompt_tokens_);
      response_.mutable_usage()->set_completion_tokens(sent_);
    }
    StartWrite(&response_);
  }

  const int max_tokens_;
  const int prompt_tokens_;
  const WallTime::duration gap_;
  WallTime due_;
  int sent_ = 0;
  std::atomic<bool> left_{false};  // OnCancel comes beside the others
  grpc::Alarm alarm_;
  v1::GenerateResponse response_;
};

class Service final : public v1::Generation::CallbackService {
 public:
  explicit Service(const NullServerOptions& options) : options_(options) {}

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* /*context*/, const v1::GenerateRequest* request) override {
    return new Stream(options_, *request);
  }

 private:
  const NullServerOptions& options_;
};

}  // namespace

struct NullGrpcServer::State {
  explicit State(const NullServerOptions& options) : service(options) {}
  Service service;
  int port = 0;
  std::unique_ptr<grpc::Server> server;
};

NullGrpcServer::NullGrpcServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

NullGrpcServer::~NullGrpcServer() { state_->server->Shutdown(std::chrono::system_clock::now()); }

int NullGrpcServer::port() const { return state_->port; }

Result<std::unique_ptr<NullGrpcServer>> NullGrpcServer::start(const NullServerOptions& options) {
  auto state = std::make_unique<State>(options);
  grpc::ServerBuilder builder;
  builder.AddListeningPort(fmt::format("127.0.0.1:{}", options.grpc_port),
                           grpc::InsecureServerCredentials(), &state->port);
  builder.RegisterService(&state->service);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  state->server = builder.BuildAndStart();
  if (!state->server || state->port == 0) {
    return Status(StatusCode::kUnavailable,
                  fmt::format("cannot listen on port {} for gRPC", options.grpc_port));
  }
  return std::unique_ptr<NullGrpcServer>(new NullGrpcServer(std::move(state)));
}

}  // namespace latentd::loadtest

// The gRPC transport: one completion queue a thread, so that sending, reading and waiting for the
// next time to send are one loop, as in the HTTP transport.
#include <grpcpp/grpcpp.h>
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <queue>
#include <string>
#include <unordered_map>
#include <utility>

#include "latentd/v1/generation.grpc.pb.h"
#include "loadtest/transport.h"

namespace latentd::loadtest {
namespace {

enum class Step : std::uint8_t { kStarting, kReading, kFinishing };

struct Call {
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientAsyncReader<v1::GenerateResponse>> reader;
  v1::GenerateResponse response;
  grpc::Status status;
  Progress progress;
  Step step = Step::kStarting;
  std::string verdict;  // why the client broke it off
};

class GrpcTransport final : public Transport {
 public:
  explicit GrpcTransport(const TransportContext& context) : context_(context) {
    const Target& target = context.target;
    const bool v6 = target.host.find(':') != std::string::npos;
    const std::string address =
        fmt::format("{}{}{}:{}", v6 ? "[" : "", target.host, v6 ? "]" : "", target.port);
    for (int i = 0; i < std::max(1, target.grpc_channels); ++i) {
      grpc::ChannelArguments arguments;
      arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection of its own
      arguments.SetMaxReceiveMessageSize(-1);
      stubs_.push_back(v1::Generation::NewStub(
          grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments)));
    }
  }

  ~GrpcTransport() override {
    abort_all("interrupted");
    queue_.Shutdown();
    void* tag = nullptr;
    bool ok = false;
    while (queue_.Next(&tag, &ok)) {
    }
  }

  void start(std::size_t index, TimePoint intended) override {
    const PlannedRequest& planned = context_.plan[index];
    const Tenant& tenant = context_.scenario.tenants[static_cast<std::size_t>(planned.tenant)];
    auto owned = std::make_unique<Call>();
    Call& call = *owned;
    calls_.emplace(&call, std::move(owned));
    call.progress.index = index;
    call.progress.tenant = planned.tenant;
    const Target& target = context_.target;
    const std::string& key = tenant.api_key.empty() ? target.api_key : tenant.api_key;
    if (!key.empty()) call.context.AddMetadata("authorization", "Bearer " + key);
    call.context.set_deadline(
        std::chrono::system_clock::now() +
        std::chrono::milliseconds(static_cast<std::int64_t>(target.timeout_s * 1e3)));
    const v1::GenerateRequest request = make_request(planned, tenant);
    auto& stub = stubs_[next_stub_++ % stubs_.size()];
    context_.recorder.on_sent(call.progress, intended, steady_now());
    call.reader = stub->PrepareAsyncGenerate(&call.context, request, &queue_);
    call.reader->StartCall(&call);
  }

  void wait(TimePoint until) override {
    resume_slow(steady_now());
    if (!slow_.empty()) until = std::min(until, slow_.top().first);
    const auto left = std::max(until - steady_now(), Duration::zero());
    auto deadline = std::chrono::system_clock::now() +
                    std::chrono::duration_cast<std::chrono::system_clock::duration>(left);
    void* tag = nullptr;
    bool ok = false;
    while (queue_.AsyncNext(&tag, &ok, deadline) == grpc::CompletionQueue::GOT_EVENT) {
      advance(*static_cast<Call*>(tag), ok);
      if (steady_now() >= until) return;
      deadline = std::chrono::system_clock::now();  // what else is ready, and no more waiting
    }
  }

  void abort_all(const std::string& error) override {
    for (auto& [pointer, call] : calls_) break_off(*call, error);
    void* tag = nullptr;
    bool ok = false;
    while (!calls_.empty() && queue_.Next(&tag, &ok)) advance(*static_cast<Call*>(tag), ok);
  }

  std::size_t in_flight() const override { return calls_.size(); }

 private:
  v1::GenerateRequest make_request(const PlannedRequest& planned, const Tenant& tenant) {
    const Target& target = context_.target;
    tokens_.clear();
    append_tokens(planned, target.tokens, tokens_);
    v1::GenerateRequest request;
    request.set_model(target.model);
    request.mutable_token_ids()->mutable_ids()->Add(tokens_.begin(), tokens_.end());
    request.mutable_sampling()->set_temperature(static_cast<float>(target.temperature));
    request.mutable_stopping()->set_max_tokens(planned.max_tokens);
    request.mutable_stopping()->set_ignore_eos(target.ignore_eos);
    request.set_priority(tenant.priority);
    return request;
  }

  void advance(Call& call, bool ok) {
    if (call.step == Step::kFinishing) return end(call);
    if (!ok) {
      call.step = Step::kFinishing;
      call.reader->Finish(&call.status, &call);
      return;
    }
    const bool took = call.step == Step::kReading;
    if (took) take(call);
    call.step = Step::kReading;
    if (took && call.verdict.empty() && context_.plan[call.progress.index].slow_reader) {
      const double seconds = static_cast<double>(call.response.ByteSizeLong()) /
                             context_.target.slow_reader_bytes_per_s;
      slow_.emplace(steady_now() + std::chrono::duration_cast<Duration>(
                                       std::chrono::duration<double>(seconds)),
                    call.progress.index);
      paused_[call.progress.index] = &call;
      return;
    }
    read(call);
  }

  void read(Call& call) { call.reader->Read(&call.response, &call); }

  // Slow readers take their next message once the last is, at their pace, read.
  void resume_slow(TimePoint now) {
    while (!slow_.empty() && slow_.top().first <= now) {
      const auto paused = paused_.find(slow_.top().second);
      slow_.pop();
      if (paused == paused_.end()) continue;  // broken off meanwhile
      Call& call = *paused->second;
      paused_.erase(paused);
      read(call);
    }
  }

  void take(Call& call) {
    Progress& progress = call.progress;
    const v1::GenerateResponse& response = call.response;
    for (const std::int32_t id : response.token_ids()) {
      progress.hash = hash_token(progress.hash, id);
    }
    progress.listed_ids = true;
    progress.finished =
        progress.finished || response.finish_reason() != v1::FINISH_REASON_UNSPECIFIED;
    if (response.has_usage()) {
      progress.prompt_tokens = response.usage().prompt_tokens();
      progress.completion_tokens = response.usage().completion_tokens();
      progress.cached_tokens = response.usage().cached_tokens();
    }
    if (response.token_ids_size() > 0) {
      context_.recorder.on_tokens(progress, response.token_ids_size(), steady_now());
    }
    const int limit = context_.plan[progress.index].cancel_after;
    if (limit >= 0 && progress.event_tokens > limit) break_off(call, "cancelled");
  }

  void break_off(Call& call, const std::string& verdict) {
    if (!call.verdict.empty()) return;
    call.verdict = verdict;
    call.context.TryCancel();
    // A slow reader that rests has to hear of it.
    if (paused_.erase(call.progress.index) > 0) read(call);
  }

  void end(Call& call) {
    std::string error = call.verdict;
    if (error.empty() && !call.status.ok()) {
      error = fmt::format("grpc {}",
                          status_code_name(static_cast<StatusCode>(call.status.error_code())));
    } else if (error.empty() && !call.progress.finished) {
      error = "cut short";
    }
    const PlannedRequest& planned = context_.plan[call.progress.index];
    context_.recorder.on_end(call.progress, std::move(error), planned.max_tokens,
                             context_.target.ignore_eos, steady_now());
    finished_.push_back(call.progress.index);
    calls_.erase(&call);
  }

  const TransportContext context_;
  grpc::CompletionQueue queue_;
  std::vector<std::unique_ptr<v1::Generation::Stub>> stubs_;
  std::size_t next_stub_ = 0;
  std::unordered_map<Call*, std::unique_ptr<Call>> calls_;
  using Wake = std::pair<TimePoint, std::size_t>;
  std::priority_queue<Wake, std::vector<Wake>, std::greater<>> slow_;
  std::unordered_map<std::size_t, Call*> paused_;  // slow readers at rest, by index in the plan
  std::vector<std::int32_t> tokens_;
};

}  // namespace

Result<std::unique_ptr<Transport>> make_grpc_transport(const TransportContext& context) {
  return std::unique_ptr<Transport>(std::make_unique<GrpcTransport>(context));
}

}  // namespace latentd::loadtest

#include "server/grpc/grpc_server.h"

#include <grpcpp/ext/channelz_service_plugin.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <algorithm>
#include <chrono>

#include "server/grpc/door_credentials.h"
#include "server/grpc/generation_service.h"
#include "server/grpc/grpc_order.h"
#include "server/grpc/vllm_service.h"

namespace latentd {
namespace {

constexpr int kFewestStreams = 1024;
constexpr Duration kConnectionGrace = std::chrono::minutes(10);

int milliseconds(Duration duration) {
  return static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(duration).count());
}

void set_limits(grpc::ServerBuilder& builder, const Frontend& frontend, Duration connection_age) {
  builder.SetMaxReceiveMessageSize(static_cast<int>(frontend.limits().max_body_bytes));
  // A gateway has one connection for all that the house takes.
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS,
                             std::max(kFewestStreams, frontend.max_in_house()));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 60'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS, milliseconds(connection_age));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS, milliseconds(kConnectionGrace));
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, 16 << 10);
  builder.AddChannelArgument(GRPC_ARG_ENABLE_CHANNELZ, 1);
  // Two servers on one port would share its connections silently.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
}

std::string address_of(const std::string& host, int port) {
  const bool bare_ipv6 = host.find(':') != std::string::npos && !host.starts_with('[');
  return (bare_ipv6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

}  // namespace

struct GrpcServer::State {
  std::unique_ptr<grpc::Service> service;       // null on an administrator's door
  std::unique_ptr<grpc::Service> vllm_service;  // likewise
  std::unique_ptr<grpc::Server> server;
  int port = 0;
};

GrpcServer::GrpcServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

GrpcServer::~GrpcServer() { shutdown(steady_now()); }

Result<std::unique_ptr<GrpcServer>> GrpcServer::start(Frontend& frontend,
                                                      const GrpcOptions& options) {
  grpc::EnableDefaultHealthCheckService(true);
  if (options.admin || !frontend.keys().required()) {
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  }
  if (options.admin) grpc::channelz::experimental::InitChannelzService();
  auto state = std::make_unique<State>();
  grpc::ServerBuilder builder;
  set_limits(builder, frontend, options.connection_age);
  const std::string address = address_of(options.host, options.port);
  builder.AddListeningPort(address, door_credentials(frontend, options.tls), &state->port);
  if (!options.admin) {
    state->service = make_generation_service(frontend);
    builder.RegisterService(state->service.get());
    state->vllm_service = make_vllm_service(frontend);
    builder.RegisterService(state->vllm_service.get());
  }
  state->server = builder.BuildAndStart();
  if (state->server == nullptr || state->port == 0) {
    return Status(StatusCode::kUnavailable, "cannot listen on " + address + " for gRPC");
  }
  std::unique_ptr<GrpcServer> server(new GrpcServer(std::move(state)));
  server->set_serving(false);
  return server;
}

int GrpcServer::port() const { return state_->port; }

void GrpcServer::set_serving(bool serving) {
  grpc::HealthCheckServiceInterface* health = state_->server->GetHealthCheckService();
  if (health == nullptr) return;
  health->SetServingStatus("", serving);
  health->SetServingStatus("latentd.v1.Generation", serving);
}

void GrpcServer::shutdown(TimePoint deadline) {
  if (state_->server == nullptr) return;
  const auto left = std::max(Duration::zero(), deadline - steady_now());
  state_->server->Shutdown(std::chrono::system_clock::now() +
                           std::chrono::duration_cast<std::chrono::milliseconds>(left));
  state_->server->Wait();
  state_->server.reset();
}

}  // namespace latentd

#include "server/grpc/call.h"

#include <spdlog/fmt/fmt.h>

#include <chrono>

namespace latentd {

std::string_view metadata_of(const grpc::CallbackServerContext& context, const char* key) {
  const auto& metadata = context.client_metadata();
  const auto found = metadata.find(key);
  if (found == metadata.end()) return {};
  return {found->second.data(), found->second.size()};
}

Result<Caller> authenticate(const grpc::CallbackServerContext& context, Frontend& frontend) {
  auto caller = frontend.keys().identify(metadata_of(context, "authorization"));
  if (caller.ok()) return caller;
  frontend.metrics().count_auth_failure("grpc");
  return Status(StatusCode::kUnauthenticated,
                "the metadata `authorization: Bearer KEY` with a valid key is required");
}

TimePoint deadline_of(const grpc::CallbackServerContext& context) {
  const auto left = context.deadline() - std::chrono::system_clock::now();
  // "None" is the far end of the clock; a year is beyond every request.
  if (left > std::chrono::hours(24 * 365)) return kNever;
  return steady_now() + std::chrono::duration_cast<Duration>(left);
}

void add_cost_metadata(grpc::CallbackServerContext& context, const Usage& usage) {
  const auto add = [&context](const char* name, double value) {
    context.AddTrailingMetadata(name, fmt::format("{:.3f}", value));
  };
  add("latentd-queue-ms", usage.cost.queue_seconds * 1e3);
  add("latentd-ttft-ms", usage.cost.first_token_seconds * 1e3);
  add("latentd-prefill-ms", usage.cost.prefill_seconds * 1e3);
  add("latentd-decode-ms", usage.cost.decode_seconds * 1e3);
  add("latentd-kv-byte-seconds", usage.cost.kv_byte_seconds);
  context.AddTrailingMetadata("latentd-cached-tokens", std::to_string(usage.cached_tokens));
  context.AddTrailingMetadata("latentd-steps", std::to_string(usage.cost.steps));
}

void add_error_metadata(grpc::CallbackServerContext& context, const Status& status,
                        const Caller& caller) {
  if (!status.field().empty()) context.AddTrailingMetadata("latentd-field", status.field());
  if (status.code() == StatusCode::kResourceExhausted) {
    context.AddTrailingMetadata("grpc-retry-pushback-ms",
                                std::to_string(Frontend::retry_after_ms(caller)));
  }
}

}  // namespace latentd

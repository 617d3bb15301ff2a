// ServerState: where the process is in its life.
//
//   loading -> ready -> draining -> (exit)      any of them -> failed -> (exit, non-zero)
#pragma once

#include <cstdint>
#include <string_view>

namespace latentd {

enum class ServerState : std::uint8_t { kLoading, kReady, kDraining, kFailed };

constexpr std::string_view server_state_name(ServerState state) {
  switch (state) {
    case ServerState::kLoading:
      return "loading";
    case ServerState::kReady:
      return "ready";
    case ServerState::kDraining:
      return "draining";
    case ServerState::kFailed:
      return "failed";
  }
  return "unknown";
}

}  // namespace latentd

// Door: what the connections of one HttpServer share.
//
// Contract: outlives its connections; any thread.
#pragma once

#include <atomic>

#include "server/frontend.h"

namespace latentd {

struct Door {
  explicit Door(Frontend& frontend_in) : frontend(frontend_in) {}

  Frontend& frontend;
  std::atomic<int> connections{0};
  std::atomic<int> active{0};  // requests whose answers are not fully written
  std::atomic<bool> closing{false};

  // Answers end their connections from now on.
  bool last_answers() const {
    return closing || frontend.state() == ServerState::kDraining ||
           frontend.state() == ServerState::kFailed;
  }
};

}  // namespace latentd

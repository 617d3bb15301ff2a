// BreakingBackend: a device that works until it is told to break. From then on `run` and `wait`
// return one error, as a CUDA device does after a sticky one.
#pragma once

#include <atomic>

#include "tests/support/forwarding_backend.h"

namespace latentd {

class BreakingBackend final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;

  // Any thread. The next `calls` calls of run and wait still succeed.
  void break_after(int calls) { calls_left_.store(calls); }

  Status wait(Fence fence) override {
    const Status status = inner().wait(fence);
    return broken() ? error() : status;
  }
  Status run(const std::optional<BucketKey>& bucket, const std::function<void()>& body) override {
    if (broken()) return error();
    return inner().run(bucket, body);
  }

 private:
  static Status error() { return {StatusCode::kUnavailable, "the device broke"}; }
  bool broken() {
    if (calls_left_.load() < 0) return false;
    if (calls_left_.load() == 0) return true;
    --calls_left_;
    return false;
  }

  std::atomic<int> calls_left_{-1};  // -1: told nothing
};

}  // namespace latentd

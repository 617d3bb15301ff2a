#include "engine/backend/cuda/run_timer.h"

#include <cuda_runtime_api.h>

namespace latentd::cuda {

struct RunTimer::Events {
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
};

RunTimer::RunTimer(std::size_t capacity) : events_(capacity) {
  for (Events& events : events_) {
    // Without an event its run is not timed: `read` then finds a device that failed.
    cudaEventCreate(&events.begin);
    cudaEventCreate(&events.end);
  }
}

RunTimer::~RunTimer() {
  for (const Events& events : events_) {
    cudaEventDestroy(events.begin);
    cudaEventDestroy(events.end);
  }
}

void RunTimer::begin(CUstream_st* stream) {
  if (count_ < events_.size()) cudaEventRecord(events_[count_].begin, stream);
}

void RunTimer::end(CUstream_st* stream) {
  if (count_ == events_.size()) return;
  cudaEventRecord(events_[count_].end, stream);
  ++count_;
}

std::vector<RunTime> RunTimer::read() {
  std::vector<RunTime> times;
  if (count_ > 0 && cudaEventSynchronize(events_[count_ - 1].end) == cudaSuccess) {
    for (std::size_t i = 0; i < count_; ++i) {
      float idle = 0.0F;
      float busy = 0.0F;
      if (i > 0) cudaEventElapsedTime(&idle, events_[i - 1].end, events_[i].begin);
      cudaEventElapsedTime(&busy, events_[i].begin, events_[i].end);
      times.push_back({idle * 1e3, busy * 1e3});
    }
  }
  count_ = 0;
  return times;
}

}  // namespace latentd::cuda

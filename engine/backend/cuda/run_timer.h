// RunTimer: how long the GPU computes and how long it waits between runs, by pairs of events.
//
// For benchmarks: two events a run cost about a microsecond of the GPU's time.
//
// Contract: used by the backend's thread. Free of CUDA headers, so that a benchmark may include it.
#pragma once

#include <cstddef>
#include <vector>

struct CUstream_st;

namespace latentd::cuda {

// Microseconds, from event to event.
struct RunTime {
  double idle = 0.0;  // from the end of the run before; 0 for the first
  double busy = 0.0;  // from its begin to its end
};

class RunTimer {
 public:
  // Times at most `capacity` runs between two readings; later ones are not timed. REQUIRES: a
  // device.
  explicit RunTimer(std::size_t capacity);
  ~RunTimer();
  RunTimer(const RunTimer&) = delete;
  RunTimer& operator=(const RunTimer&) = delete;

  void begin(CUstream_st* stream);
  void end(CUstream_st* stream);

  // Waits for the runs so far, and forgets them. Empty when the device failed.
  std::vector<RunTime> read();

 private:
  struct Events;

  std::vector<Events> events_;
  std::size_t count_ = 0;
};

}  // namespace latentd::cuda

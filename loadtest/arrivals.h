// ArrivalProcess: when the requests of an open loop are meant to be sent.
//
// Contract: times are seconds from the start, never falling; equal seeds give equal times. The
// arrivals do not depend on the answers: that is what makes a loop open.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"
#include "loadtest/random.h"

namespace latentd::loadtest {

enum class Process : std::uint8_t {
  kPoisson,   // independent users
  kGamma,     // bursty: gaps with coefficient of variation `cv` (1 is Poisson)
  kConstant,  // a metronome
  kClosed,    // `concurrency` users, each waiting for its answer: no times of its own
  kTrace,     // the times of a trace
};

Result<Process> parse_process(std::string_view name);
std::string_view process_name(Process process);

class ArrivalProcess final {
 public:
  // REQUIRES: process is kPoisson, kGamma or kConstant; rate (requests a second) and cv > 0.
  ArrivalProcess(Process process, double rate, double cv, std::uint64_t seed);

  double next();

 private:
  double gap();

  Process process_;
  double mean_gap_;
  double shape_;  // of the gamma distribution: 1 / cv^2
  double now_ = 0.0;
  Random random_;
};

}  // namespace latentd::loadtest

// Random: the generator and the distributions of the load test. The same seed gives the same
// numbers with every standard library, which std's distributions do not promise.
//
// Contract: plain value; one thread. Sources: splitmix64 (Steele, Lea, Flood 2014);
// gamma by Marsaglia and Tsang, "A simple method for generating gamma variables" (2000).
#pragma once

#include <cstdint>

namespace latentd::loadtest {

// One step of splitmix64: a good hash of `value`.
constexpr std::uint64_t mix(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15ULL;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
  return value ^ (value >> 31);
}

// A seed for a stream of its own: of a tenant, a session, a prefix.
constexpr std::uint64_t mix(std::uint64_t seed, std::uint64_t stream) {
  return mix(mix(seed) ^ (stream * 0xd6e8feb86659fd93ULL));
}

class Random final {
 public:
  explicit Random(std::uint64_t seed) : state_(mix(seed)) {}

  std::uint64_t next() {
    const std::uint64_t value = mix(state_);
    state_ += 0x9e3779b97f4a7c15ULL;
    return value;
  }
  // [0, bound), bound > 0. The bias is below bound / 2^64.
  std::uint64_t below(std::uint64_t bound);
  double uniform();            // [0, 1)
  double exponential();        // mean 1
  double normal();             // mean 0, deviation 1
  double gamma(double shape);  // scale 1; shape > 0

 private:
  std::uint64_t state_;
};

}  // namespace latentd::loadtest

#include "loadtest/random.h"

#include <cmath>
#include <numbers>

namespace latentd::loadtest {

std::uint64_t Random::below(std::uint64_t bound) {
  // The high half of a 64 x 64 product, without 128-bit types: bounds here are below 2^32.
  if (bound <= 0xffffffffULL) return ((next() >> 32) * bound) >> 32;
  return next() % bound;
}

double Random::uniform() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

double Random::exponential() { return -std::log1p(-uniform()); }

double Random::normal() {
  const double radius = std::sqrt(2.0 * exponential());
  return radius * std::cos(2.0 * std::numbers::pi * uniform());
}

double Random::gamma(double shape) {
  if (shape < 1.0) {
    const double boost = std::pow(1.0 - uniform(), 1.0 / shape);
    return gamma(shape + 1.0) * boost;
  }
  const double d = shape - 1.0 / 3.0;
  const double c = 1.0 / std::sqrt(9.0 * d);
  while (true) {
    const double x = normal();
    const double root = 1.0 + c * x;
    if (root <= 0.0) continue;
    const double v = root * root * root;
    if (std::log1p(-uniform()) < 0.5 * x * x + d - d * v + d * std::log(v)) return d * v;
  }
}

}  // namespace latentd::loadtest

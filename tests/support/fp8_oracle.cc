#include "tests/support/fp8_oracle.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace latentd::oracle {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr std::size_t kGroup = 128;
constexpr double kLargest = 448.0;

double scale_of(std::span<const double> group) {
  double largest = 0.0;
  for (const double x : group) {
    if (!std::isfinite(x)) return kNaN;
    largest = std::max(largest, std::abs(x));
  }
  double scale = std::ldexp(1.0, -117);
  while (largest > kLargest * scale) scale *= 2.0;
  return scale;
}

}  // namespace

double e4m3_value(std::uint8_t code) {
  const int exponent = (code >> 3) & 15;
  const int mantissa = code & 7;
  if (exponent == 15 && mantissa == 7) return kNaN;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, 1 - 7 - 3) : std::ldexp(8 + mantissa, exponent - 7 - 3);
  return (code & 0x80) != 0 ? -magnitude : magnitude;
}

std::uint8_t nearest_e4m3(double x) {
  static const std::vector<double> magnitudes = [] {  // ascending with their codes, 0 to 448
    std::vector<double> values;
    for (std::uint8_t code = 0; code < 0x7f; ++code) values.push_back(e4m3_value(code));
    return values;
  }();
  const double wanted = std::abs(x);
  std::size_t code = 0x7f;
  if (!std::isnan(x)) {
    const auto above = std::lower_bound(magnitudes.begin() + 1, magnitudes.end() - 1, wanted);
    code = static_cast<std::size_t>(above - magnitudes.begin());
    const double up = magnitudes[code] - wanted;
    const double down = wanted - magnitudes[code - 1];
    if (down < up || (down == up && code % 2 != 0)) --code;
  }
  return static_cast<std::uint8_t>(code | (std::signbit(x) ? 0x80U : 0U));
}

std::vector<double> Fp8Latents::values() const {
  std::vector<double> result;
  result.reserve(codes.size());
  for (std::size_t i = 0; i < codes.size(); ++i) {
    result.push_back(e4m3_value(codes[i]) * static_cast<double>(scales[i / kGroup]));
  }
  return result;
}

Fp8Latents quantize(std::span<const double> latents) {
  Fp8Latents result;
  for (std::size_t first = 0; first < latents.size(); first += kGroup) {
    const auto group = latents.subspan(first, std::min(kGroup, latents.size() - first));
    const double scale = scale_of(group);
    result.scales.push_back(static_cast<float>(scale));
    for (const double x : group) result.codes.push_back(nearest_e4m3(x / scale));
  }
  return result;
}

}  // namespace latentd::oracle

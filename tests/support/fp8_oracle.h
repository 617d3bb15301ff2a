// What an fp8 latent cache holds, in double precision and by search instead of by bits: the oracle
// of base/dtype.h, engine/backend/latent_scale.h and the kernels that use them.
//
// Contract: pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace latentd::oracle {

// The value of an e4m3 code (OCP 8-bit floating point specification): NaN for S.1111.111.
double e4m3_value(std::uint8_t code);

// The code whose value is nearest, at a tie the even one; +-448 beyond it; NaN for NaN.
std::uint8_t nearest_e4m3(double x);

// Latents as stored: a code each, and a scale for every 128 of them (the last group may be
// shorter), the smallest power of two with which all of the group are within +-448. A group with a
// NaN or an infinity has the scale NaN.
struct Fp8Latents {
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;

  // Code i times the scale of its group.
  std::vector<double> values() const;
};
Fp8Latents quantize(std::span<const double> latents);

}  // namespace latentd::oracle

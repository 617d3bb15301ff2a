// The scale that a group of latents gets in an fp8 cache: the smallest power of two with which the
// largest of them is at most 448, the largest e4m3 value. Dividing and multiplying by it is exact,
// so rounding to e4m3 is the only loss, and widened values are exact in fp32 and bf16.
//
// A group that holds a NaN or an infinity has the scale NaN: whoever reads it finds only NaN, so a
// sequence that went wrong is found out where logits are checked, as with any other cache.
//
// Contract: pure functions of bits, the same on host and device.
#pragma once

#include <cstdint>

#include "engine/backend/host_device.h"

namespace latentd {

// `largest`: the greatest of the group's fp32 patterns without their signs; as integers, they order
// as magnitudes do, infinity and NaN above all others. Returns the scale's pattern: 2^-117, with
// which the smallest code is still a normal number, to 2^120, or NaN.
LATENTD_HOST_DEVICE constexpr std::uint32_t latent_scale_bits(std::uint32_t largest) {
  constexpr std::uint32_t kInfinity = 0x7f800000U;
  constexpr std::uint32_t kNaN = 0x7fc00000U;
  if (largest >= kInfinity) return kNaN;
  // 448 = 1.75 * 2^8.
  constexpr std::uint32_t kMantissaOf448 = 0x600000U;
  const std::uint32_t exponent = (largest >> 23) + ((largest & 0x7fffffU) > kMantissaOf448 ? 1 : 0);
  constexpr std::uint32_t kLeast = 10;  // of 2^-117
  return (exponent > kLeast + 8 ? exponent - 8 : kLeast) << 23;
}

// The pattern of 1 / scale, exact; NaN for NaN.
LATENTD_HOST_DEVICE constexpr std::uint32_t inverse_scale_bits(std::uint32_t scale) {
  constexpr std::uint32_t kNaN = 0x7fc00000U;
  return scale == kNaN ? kNaN : (254U << 23) - scale;
}

}  // namespace latentd

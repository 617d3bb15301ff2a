// The elements of random tensors: a pure function of (seed, index), with the same bits on every
// backend.
//
// splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014),
// counted instead of stepped: fast, and good enough for weights.
//
// Contract: plain inline code for host and device; thread-safe.
#pragma once

#include <cstdint>

#include "engine/backend/host_device.h"

namespace latentd {

// Uniform in [-limit, limit). Its 24 random bits are exact in fp32, so only the product rounds.
LATENTD_HOST_DEVICE inline float random_element(std::uint64_t seed, std::uint64_t index,
                                                float limit) {
  std::uint64_t z = seed + (index + 1) * 0x9e3779b97f4a7c15U;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  z ^= z >> 31;
  const float unit = static_cast<float>(static_cast<std::uint32_t>(z >> 40)) * 0x1p-23F - 1.0F;
  return unit * limit;
}

}  // namespace latentd

// The randomness of sampling: a pure function of (seed, position), the same on every backend.
//
// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): key = the
// request's seed, counter = the position of the token that is drawn. No state, so a draw depends on
// neither the batch nor the order of steps, and a repeated or preempted request repeats its text.
//
// Contract: plain inline code for host and device; thread-safe.
#pragma once

#include <cstdint>

#include "engine/backend/host_device.h"

namespace latentd {

struct PhiloxBlock {
  std::uint32_t words[4];
};

LATENTD_HOST_DEVICE inline PhiloxBlock philox4x32_10(PhiloxBlock counter, std::uint32_t key0,
                                                     std::uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53U} * counter.words[0];
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57U} * counter.words[2];
    counter = {{static_cast<std::uint32_t>(product1 >> 32) ^ counter.words[1] ^ key0,
                static_cast<std::uint32_t>(product1),
                static_cast<std::uint32_t>(product0 >> 32) ^ counter.words[3] ^ key1,
                static_cast<std::uint32_t>(product0)}};
    key0 += 0x9E3779B9U;
    key1 += 0xBB67AE85U;
  }
  return counter;
}

// Uniform in [0, 1) with 53 random bits. A token is drawn by walking the tokens that may be drawn
// in ascending id, adding their weights in fp64, to the first whose sum exceeds uniform * total.
LATENTD_HOST_DEVICE inline double sampling_uniform(std::uint64_t seed, std::int32_t position) {
  const PhiloxBlock block =
      philox4x32_10({{static_cast<std::uint32_t>(position), 0, 0, 0}},
                    static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
  const std::uint64_t bits = (std::uint64_t{block.words[0]} << 32) | block.words[1];
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

}  // namespace latentd

// How the experts of a step are divided: pure functions of sizes that the host knows.
//
// Routing stays on the device, so grids are upper bounds and blocks without work leave at once.
//
// Contract: plain host code, no device needed.
#pragma once

#include <algorithm>
#include <cstdint>

namespace latentd::cuda {

// Entries (pairs of token and expert) of one tile.
inline constexpr int kExpertTile = 64;
// Tokens that are computed together: bounds the memory of what experts give before it is summed,
// [tokens, experts_per_token, hidden] fp32.
inline constexpr int kMostExpertTokens = 1024;

// Tiles that `entries` may fill when every expert's last one is partly empty.
constexpr int most_expert_tiles(int entries, int num_experts) {
  return entries / kExpertTile + std::min(entries, num_experts);
}

}  // namespace latentd::cuda

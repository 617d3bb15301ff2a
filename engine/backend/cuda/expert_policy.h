// How the products of few tokens and of experts are divided: pure functions of sizes that the host
// knows.
//
// Routing stays on the device, so whoever sizes memory or a grid uses upper bounds.
//
// Contract: plain host code, no device needed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace latentd::cuda {

// Entries (pairs of token and expert) of one part in the portable kernels.
inline constexpr int kGenericPart = 64;
// Tokens that are computed together: bounds the memory of what experts give before it is summed,
// [tokens, experts_per_token + shared experts, hidden].
inline constexpr int kMostExpertTokens = 4096;

// Parts that `entries` may fill when every expert's last one is partly empty.
constexpr int most_expert_parts(int entries, int num_experts, int part_tokens) {
  return entries / part_tokens + std::min(entries, num_experts);
}

// What a step of experts needs of scratch: rows of what experts give, and parts. Grows with every
// argument but part_tokens, which it shrinks with.
struct ExpertScratch {
  int given_rows;
  int parts;
};
constexpr ExpertScratch expert_scratch(int tokens, int routed_entries, int num_experts,
                                       int shared_experts, int part_tokens) {
  const int entries = routed_entries + shared_experts * tokens;
  return {entries, most_expert_parts(entries, num_experts + shared_experts, part_tokens)};
}

// Tokens of a dense product's tile on warp-group tensor cores (kernels/weight_tiles.cuh).
inline constexpr int kTilePart = 128;
// Its weights are copied in boxes of so many rows and values of k.
inline constexpr int kTileBoxRows = 128;
inline constexpr int kTileK = 64;

// Most entries of an expert's tile on warp-group tensor cores (kernels/turn_tiles.cuh), and rows of
// a box of its weights. Tiles are as wide as they have entries; what is chosen is how much shared
// memory a stage of the ring takes, and so how many stages are on their way.
inline constexpr int kNarrowPart = 112;
inline constexpr int kWidePart = 208;
inline constexpr int kExpertBoxRows = 64;

// Entries of an expert that are computed together on tensor cores: 8, 16 or 32 where weights stream
// past a few tokens, more where warp groups multiply. The values are the same bits either way.
//
// A wide tile costs shared memory that deep copies would use; a narrow one reads weights (from L2)
// once more for every further tile. An expert has tokens * per_token / experts of the step's
// tokens, and some experts more than this mean.
constexpr int expert_tile(int tokens, int experts_per_token, int num_experts, bool warp_groups) {
  const int mean = (tokens * experts_per_token + num_experts - 1) / num_experts;
  if (mean <= 2) return 8;
  if (mean <= 5) return 16;
  if (!warp_groups) return 32;
  return mean <= 88 ? kNarrowPart : kWidePart;
}

// The same for a dense product. Few slabs hide little of a chain's latency: narrow tiles, which
// read weights from L2 again, are faster than wide ones until tiles of warp groups are.
constexpr int product_tile(int rows, bool warp_groups) {
  if (rows <= 32) return 8;
  if (rows < kTilePart) return 16;
  return warp_groups ? kTilePart : 32;
}

// Whether norm, router, route and sort of a step run as one launch (kernels/gate.cuh): every token
// reads the whole router, which pays off while launches weigh more. Its sums have an order of their
// own, so batch-invariant steps never do.
constexpr bool fits_gate(int tokens, int hidden_size, int num_experts) {
  constexpr int kMostTokens = 16;
  constexpr int kMostSharedFloats = 12 * 1024 - 256;  // of 48 KB
  return tokens <= kMostTokens && hidden_size % 8 == 0 &&
         hidden_size + 5 * num_experts <= kMostSharedFloats;
}

// Whether launches of a step may begin while the one before ends: worth 2 us of few tokens' 65, and
// not of use where tiles of many tokens want the whole GPU.
constexpr bool launches_early(int tokens) { return tokens <= 64; }

// Whether rows of `bytes` bytes at `address` can be copied in pieces of 16 bytes.
inline bool in_pieces(const void* address, std::int64_t bytes) {
  return reinterpret_cast<std::uintptr_t>(address) % 16 == 0 && bytes % 16 == 0;
}

}  // namespace latentd::cuda

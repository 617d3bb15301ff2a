// Where rows share prefixes, a query vector's keys are divided over a chain of units: those of its
// prefixes, outermost first, and its own row's. Their pieces are merged in the order of the keys.
//
// Contract: as mla_plan.h; not for batch-invariant division, which shares nothing.
#pragma once

#include <cstdint>

#include "engine/backend/cuda/mla_plan.h"

namespace latentd::cuda {

inline constexpr int kMlaMostLinks = kMaxPrefixDepth + 1;

// One work of a row's chain: its first query vector and unit, in the order of all.
struct MlaLink {
  std::int32_t first_vector = 0;
  std::int32_t first_unit = 0;
};

// The chain of a row of one token.
struct alignas(16) MlaChain {
  std::int32_t token = 0;
  std::int32_t count = 0;  // links
  MlaLink links[kMlaMostLinks];
  std::int32_t padding[2] = {};
};

// Where the pieces of a chained unit left their partial results: `first` is first_slot of cut ones,
// `chain` of others.
struct MlaParts {
  std::int32_t first = 0;
  std::int32_t count = 0;
};

LATENTD_HOST_DEVICE constexpr MlaParts mla_parts(const MlaPiece& piece) {
  return {piece.count > 1 ? piece.first_slot : piece.chain, piece.count};
}

// The chain of row `row`, whose works are works[num_prefixes + row] and those of its prefixes.
LATENTD_HOST_DEVICE inline MlaChain mla_chain(const MlaWork* works, const MlaPrefix* prefix,
                                              int num_prefixes, const PrefixView* prefixes,
                                              int innermost, int row, const MlaDivision& d) {
  MlaChain chain;
  chain.token = works[num_prefixes + row].view.first_token;
  // From the row outwards, then turned around.
  int work = num_prefixes + row;
  for (int next = innermost; work >= 0; work = next) {
    if (work < num_prefixes) next = prefixes[work].parent;
    if (works[work].view.count == 0) continue;  // less than a key tile
    chain.links[chain.count++] = {works[work].view.first_token * d.heads, prefix[work].places};
  }
  for (int i = 0; i < chain.count / 2; ++i) {
    const MlaLink other = chain.links[chain.count - 1 - i];
    chain.links[chain.count - 1 - i] = chain.links[i];
    chain.links[i] = other;
  }
  return chain;
}

// A unit's pieces of one query vector: rows of partial results first, first + 1 * step, first + 3 *
// step, first + 5 * step ..., one a piece.
struct MlaSource {
  std::int32_t first = 0;
  std::int32_t count = 0;
};

LATENTD_HOST_DEVICE constexpr MlaSource mla_source(const MlaLink& link, const MlaParts* parts,
                                                   int vector, const MlaDivision& d) {
  const int rows = d.group * kMlaTileRows;
  const int place = vector - link.first_vector;
  const MlaParts part = parts[link.first_unit + place / rows];
  const int first = part.count > 1 ? part.first * rows : 2 * d.shares * rows + part.first;
  return {first + place % rows, part.count};
}

LATENTD_HOST_DEVICE constexpr int mla_source_row(int first, int index, const MlaDivision& d) {
  return first + (index == 0 ? 0 : (2 * index - 1) * d.group * kMlaTileRows);
}

}  // namespace latentd::cuda

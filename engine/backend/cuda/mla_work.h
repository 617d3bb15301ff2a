// What the 512 + 64 attention kernel has to do in a step: works, each of the query vectors of some
// rows over their keys.
//
// A row's query vectors (tokens x heads) lie one behind the other; 64 of them are a row tile,
// `group` row tiles are a unit. A unit walks its keys in key tiles of 64. Where rows share keys, a
// unit is the query vectors of several rows and walks what they share once (mla_sharing.h).
//
// Contract: host and device code without state; tested on the host. Work of no vectors is empty.
#pragma once

#include <cstdint>

#include "engine/backend/op_params.h"

#ifdef __CUDACC__
#define LATENTD_HOST_DEVICE __host__ __device__
#else
#define LATENTD_HOST_DEVICE
#endif

namespace latentd::cuda {

inline constexpr int kMlaTileRows = 64;
inline constexpr int kMlaTileKeys = 64;

struct MlaDivision {
  std::int32_t heads = 0;
  std::int32_t group = 1;   // row tiles of a unit = CTAs that walk it side by side
  std::int32_t shares = 0;  // groups of CTAs, at most kMlaMostShares
  std::int32_t least = 2;   // key tiles that are worth a share
  // Batch invariance: most pieces of a unit, at least kMlaFewPieces; 0: none.
  std::int32_t invariant = 0;
};

// Query vectors of tokens [first_token, first_token + count): token i sees the first start + i + 1
// keys of `view.slot`. Where several rows are one unit, its keys are those of `segments` segments
// instead, `tiles` key tiles together.
struct MlaWork {
  RowView view;
  std::int32_t first_row = 0;  // the next three: of several rows
  std::int32_t tiles = 0;
  std::int32_t segments = 0;  // 0: of one row
  std::int32_t padding = 0;
};

// Key tiles of a unit, up to last_tile, that are keys of one slot: the unit's tile t is the slot's
// tile t - behind, and keys end at `context`. The unit's query vectors [first_vector, last_vector)
// see them, others do not.
struct alignas(16) MlaSegment {
  std::int32_t slot = 0;
  std::int32_t behind = 0;
  std::int32_t last_tile = 0;
  std::int32_t context = 0;
  std::int32_t first_vector = 0;
  std::int32_t last_vector = 0;
  std::int32_t padding[2] = {};
};

LATENTD_HOST_DEVICE constexpr int mla_divide_up(int a, int b) { return (a + b - 1) / b; }

LATENTD_HOST_DEVICE constexpr int mla_row_tiles(const MlaWork& work, const MlaDivision& d) {
  return mla_divide_up(work.view.count * d.heads, kMlaTileRows);
}

LATENTD_HOST_DEVICE constexpr int mla_units(const MlaWork& work, const MlaDivision& d) {
  return mla_divide_up(mla_row_tiles(work, d), d.group);
}

// The keys that the last query of a row's unit sees end here.
LATENTD_HOST_DEVICE constexpr int mla_context(const MlaWork& work, const MlaDivision& d, int unit) {
  const int past = (unit + 1) * d.group * kMlaTileRows;
  const int all = work.view.count * d.heads;
  return work.view.start + ((past < all ? past : all) - 1) / d.heads + 1;
}

LATENTD_HOST_DEVICE constexpr int mla_key_tiles(const MlaWork& work, const MlaDivision& d,
                                                int unit) {
  if (work.segments > 0) return work.tiles;
  return mla_divide_up(mla_context(work, d, unit), kMlaTileKeys);
}

// All keys of a row's unit.
LATENTD_HOST_DEVICE constexpr MlaSegment mla_row_keys(const MlaWork& work, const MlaDivision& d,
                                                      int unit) {
  const int context = mla_context(work, d, unit);
  return {work.view.slot, 0, mla_divide_up(context, kMlaTileKeys),
          context,        0, work.view.count * d.heads};
}

}  // namespace latentd::cuda

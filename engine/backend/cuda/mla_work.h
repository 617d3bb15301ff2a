// What the 512 + 64 attention kernel has to do in a step: pieces of work, each of some query
// vectors over some keys.
//
// A row's work is its own query vectors (tokens x heads, one behind the other) over its context.
// Where rows share a prefix, the prefix' work is the query vectors of all of them, which lie behind
// one another too, over its keys, and the rows' own work begins behind it. Whole key tiles are
// shared: a prefix that ends within one leaves that to the rows.
//
// 64 query vectors are a row tile, `group` row tiles are a unit. A unit walks its keys in key tiles
// of 64.
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
  std::int32_t invariant = 0;
};

// Query vectors of tokens [first_token, first_token + count) over the keys from first_tile on that
// they see: token i those before start + i + 1, and none from last_key on. The keys are those of
// `view.slot`.
struct MlaWork {
  RowView view;
  std::int32_t first_tile = 0;
  std::int32_t last_key = 0;
  std::int32_t chained = 0;  // other work has the same vectors and other keys
};

LATENTD_HOST_DEVICE constexpr int mla_divide_up(int a, int b) { return (a + b - 1) / b; }

LATENTD_HOST_DEVICE constexpr MlaWork mla_prefix_work(const PrefixView& prefix,
                                                      const RowView* rows) {
  const RowView& first = rows[prefix.first_row];
  const int first_tile = prefix.first_key / kMlaTileKeys;
  const int last_tile = prefix.last_key / kMlaTileKeys;
  // All vectors see all of its keys.
  const int last_key = last_tile * kMlaTileKeys;
  const int count = last_tile > first_tile ? prefix.num_rows : 0;
  return {{first.slot, first.first_token, count, last_key}, first_tile, last_key, 1};
}

// `prefix`: the row's innermost, or -1.
LATENTD_HOST_DEVICE constexpr MlaWork mla_row_work(const RowView& row, const PrefixView* prefixes,
                                                   int prefix) {
  const int first_tile = prefix < 0 ? 0 : prefixes[prefix].last_key / kMlaTileKeys;
  return {row, first_tile, row.start + row.count, first_tile > 0 ? 1 : 0};
}

LATENTD_HOST_DEVICE constexpr int mla_row_tiles(const MlaWork& work, const MlaDivision& d) {
  return mla_divide_up(work.view.count * d.heads, kMlaTileRows);
}

LATENTD_HOST_DEVICE constexpr int mla_units(const MlaWork& work, const MlaDivision& d) {
  return mla_divide_up(mla_row_tiles(work, d), d.group);
}

LATENTD_HOST_DEVICE constexpr int mla_unit_vectors(const MlaWork& work, const MlaDivision& d,
                                                   int unit) {
  const int left = work.view.count * d.heads - unit * d.group * kMlaTileRows;
  return left < d.group * kMlaTileRows ? left : d.group * kMlaTileRows;
}

// The keys that the last query of a unit sees end here.
LATENTD_HOST_DEVICE constexpr int mla_context(const MlaWork& work, const MlaDivision& d, int unit) {
  const int past = (unit + 1) * d.group * kMlaTileRows;
  const int all = work.view.count * d.heads;
  const int seen = work.view.start + ((past < all ? past : all) - 1) / d.heads + 1;
  return seen < work.last_key ? seen : work.last_key;
}

LATENTD_HOST_DEVICE constexpr int mla_key_tiles(const MlaWork& work, const MlaDivision& d,
                                                int unit) {
  return mla_divide_up(mla_context(work, d, unit), kMlaTileKeys) - work.first_tile;
}

}  // namespace latentd::cuda

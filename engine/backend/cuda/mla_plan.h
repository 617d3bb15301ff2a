// How the 512 + 64 attention kernel divides a step over the GPU: pure functions of the rows.
//
// A row of the plan holds count * heads query vectors, one behind the other; 64 of them are a row
// tile, `group` row tiles are a unit. A unit walks its context in key tiles of 64 tokens. Units lie
// on one line, each as long as its key tiles plus what starting it costs; the line is cut into
// equal shares, one for each group of CTAs, so a unit may be cut into pieces. Pieces of a unit are
// merged in the order of their keys.
//
// Batch-invariant division cuts a unit by its own length only and hands whole pieces to the share
// in which they begin: neighbours move pieces between CTAs and never change them.
//
// Contract: host and device code without state; tested on the host. `rows` with count 0 are empty.
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
// What a piece costs beside its key tiles, in key tiles: queries, first keys, results.
inline constexpr int kMlaUnitOverhead = 1;
// Under batch invariance a unit has at most so many pieces, of at least so many key tiles, and only
// decode rows are cut.
inline constexpr int kMlaInvariantPieces = 8;
inline constexpr int kMlaInvariantTiles = 8;

struct MlaDivision {
  std::int32_t heads = 0;
  std::int32_t group = 1;   // row tiles of a unit = CTAs that walk it side by side
  std::int32_t shares = 0;  // groups of CTAs
  std::int32_t least = 4;   // key tiles that are worth a share
  std::int32_t invariant = 0;
};

// A prefix of the line: where a row's first unit begins, and how many pieces of cut units lie
// before it (batch-invariant division only).
struct MlaPrefix {
  std::int32_t cost = 0;
  std::int32_t slots = 0;
};

// Where a share begins: unit `unit` of rows[row] = view, which begins at `base` on the line.
struct alignas(16) MlaShare {
  RowView view;
  std::int32_t row = 0;  // the number of rows: the share is empty
  std::int32_t unit = 0;
  std::int32_t base = 0;
  std::int32_t slot = 0;   // MlaPrefix::slots at the unit
  std::int32_t total = 0;  // the length of the line
  std::int32_t used = 0;   // shares that it is cut into
  std::int32_t padding[2] = {};
};

// What the plan knows of all units together.
struct MlaTotals {
  std::int32_t cost = 0;
  std::int32_t units = 0;
  std::int32_t largest = 0;  // cost of a unit
};

// Key tiles [first_tile, last_tile) of a unit. `index` of `count` pieces; partial results lie in
// slot mla_slot(piece, index).
struct MlaPiece {
  RowView view;
  std::int32_t unit = 0;
  std::int32_t context = 0;  // keys that the unit's last query sees
  std::int32_t first_tile = 0;
  std::int32_t last_tile = 0;
  std::int32_t index = 0;
  std::int32_t count = 0;
  std::int32_t first_slot = 0;
};

LATENTD_HOST_DEVICE constexpr int mla_divide_up(int a, int b) { return (a + b - 1) / b; }

LATENTD_HOST_DEVICE constexpr int mla_row_tiles(const RowView& row, const MlaDivision& d) {
  return mla_divide_up(row.count * d.heads, kMlaTileRows);
}

LATENTD_HOST_DEVICE constexpr int mla_units(const RowView& row, const MlaDivision& d) {
  return mla_divide_up(mla_row_tiles(row, d), d.group);
}

// Keys that the last query of a unit sees.
LATENTD_HOST_DEVICE constexpr int mla_context(const RowView& row, const MlaDivision& d, int unit) {
  const int past = (unit + 1) * d.group * kMlaTileRows;
  const int all = row.count * d.heads;
  return row.start + ((past < all ? past : all) - 1) / d.heads + 1;
}

LATENTD_HOST_DEVICE constexpr int mla_key_tiles(const RowView& row, const MlaDivision& d,
                                                int unit) {
  return mla_divide_up(mla_context(row, d, unit), kMlaTileKeys);
}

// Key tiles of a piece under batch invariance: a power of two from the unit's own length.
LATENTD_HOST_DEVICE constexpr int mla_invariant_tiles(const RowView& row, int key_tiles) {
  if (row.count != 1) return key_tiles;
  int tiles = kMlaInvariantTiles;
  while (tiles * kMlaInvariantPieces < key_tiles) tiles *= 2;
  return tiles;
}

// What a unit adds to the line.
LATENTD_HOST_DEVICE constexpr MlaPrefix mla_cost(const RowView& row, const MlaDivision& d,
                                                 int unit) {
  const int tiles = mla_key_tiles(row, d, unit);
  const int pieces = d.invariant != 0 ? mla_divide_up(tiles, mla_invariant_tiles(row, tiles)) : 1;
  return {tiles + kMlaUnitOverhead, pieces > 1 ? pieces : 0};
}

// Shares that the line is cut into.
LATENTD_HOST_DEVICE constexpr int mla_used_shares(const MlaTotals& totals, const MlaDivision& d) {
  const int least = d.invariant != 0 || d.least < 1 ? 1 : d.least;
  const int worth = totals.cost / least > 1 ? totals.cost / least : 1;
  const int most = worth < d.shares ? worth : d.shares;
  const bool alike =
      std::int64_t{totals.largest} * totals.units * 32 <= std::int64_t{totals.cost} * 33;
  if (d.invariant != 0 || !alike || totals.units == 0) return most;
  const int whole = totals.units <= most
                        ? most / totals.units * totals.units
                        : mla_divide_up(totals.units, mla_divide_up(totals.units, most));
  return whole * 16 >= most * 15 ? whole : most;
}

// Where share `share` begins on the line before cuts move, and the last share that begins at or
// before `place`.
LATENTD_HOST_DEVICE constexpr int mla_cut(int share, int total, int used) {
  return static_cast<int>(std::int64_t{share} * total / used);
}
LATENTD_HOST_DEVICE constexpr int mla_share_of(int place, int total, int used) {
  return static_cast<int>(((std::int64_t{place} + 1) * used - 1) / total);
}

// The shares that have a piece of a unit at [base, base + cost) of the line.
struct MlaSpan {
  std::int32_t first = 0;
  std::int32_t last = 0;
};
LATENTD_HOST_DEVICE constexpr MlaSpan mla_span(int base, int cost, int total, int used) {
  int near = total / used / 16;  // cuts so near to an end move there
  if (near > (cost - 1) / 2) near = (cost - 1) / 2;
  if (near < kMlaUnitOverhead) near = kMlaUnitOverhead;
  const int first = mla_share_of(base + near, total, used);
  const int last = mla_share_of(base + cost - near - 1, total, used);
  return {first, last > first ? last : first};
}

// Slots of partial results that a launch may use, each of `group` row tiles.
constexpr std::int64_t mla_slots(const MlaDivision& d, std::int64_t max_rows) {
  if (d.invariant == 0) return std::int64_t{2} * d.shares;
  const int units = mla_divide_up(mla_divide_up(d.heads, kMlaTileRows), d.group);
  return max_rows * units * kMlaInvariantPieces;
}

// The slot of a unit's piece `index`.
LATENTD_HOST_DEVICE constexpr int mla_slot(const MlaPiece& piece, const MlaDivision& d, int index) {
  if (d.invariant != 0) return piece.first_slot + index;
  return index == 0 ? piece.first_slot : piece.first_slot - 1 + 2 * index;
}

// Share `share` of the line; prefix[r] for r in 0 .. num_rows, the last one the totals.
LATENTD_HOST_DEVICE inline MlaShare mla_share(const RowView* rows, const MlaPrefix* prefix,
                                              int num_rows, const MlaTotals& totals,
                                              const MlaDivision& d, int share) {
  MlaShare result;
  result.row = num_rows;
  result.total = totals.cost;
  result.used = mla_used_shares(totals, d);
  if (totals.cost == 0 || share >= result.used) return result;
  const int begin = mla_cut(share, result.total, result.used);
  int low = 0;  // the last row with prefix <= begin
  int high = num_rows;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (prefix[middle].cost <= begin ? low : high) = middle;
  }
  result.base = prefix[low].cost;
  result.slot = prefix[low].slots;
  for (result.row = low; result.row < num_rows; ++result.row) {
    result.view = rows[result.row];
    for (result.unit = 0; result.unit < mla_units(result.view, d); ++result.unit) {
      const MlaPrefix unit = mla_cost(result.view, d, result.unit);
      const bool found =
          d.invariant != 0
              ? result.base + unit.cost > begin
              : mla_span(result.base, unit.cost, result.total, result.used).last >= share;
      if (found) return result;
      result.base += unit.cost;
      result.slot += unit.slots;
    }
  }
  return result;
}

// The pieces of a share, in the order of the line.
class MlaWalk {
 public:
  LATENTD_HOST_DEVICE MlaWalk(const MlaShare& share, const RowView* rows, int num_rows,
                              const MlaDivision& division, int index)
      : share_(share),
        rows_(rows),
        num_rows_(num_rows),
        division_(division),
        index_(index),
        begin_(share.used > 0 ? mla_cut(index, share.total, share.used) : 0),
        end_(share.used > 0 ? mla_cut(index + 1, share.total, share.used) : 0) {}

  // False when the share has no more.
  LATENTD_HOST_DEVICE bool next(MlaPiece& piece) {
    while (share_.row < num_rows_) {
      if (share_.unit >= mla_units(share_.view, division_)) {
        if (++share_.row < num_rows_) share_.view = rows_[share_.row];
        share_.unit = 0;
        continue;
      }
      const int tiles = mla_key_tiles(share_.view, division_, share_.unit);
      piece.view = share_.view;
      piece.unit = share_.unit;
      piece.context = mla_context(share_.view, division_, share_.unit);
      // The unit's first key tile lies behind what starting it costs.
      const int first = share_.base + kMlaUnitOverhead;
      if (division_.invariant != 0) {
        if (first >= end_) return false;
        if (next_whole(piece, first, tiles)) return true;
      } else {
        const MlaSpan span =
            mla_span(share_.base, tiles + kMlaUnitOverhead, share_.total, share_.used);
        if (span.first > index_) return false;
        cut(piece, first, tiles, span);
        return true;
      }
    }
    return false;
  }

 private:
  LATENTD_HOST_DEVICE void pass_unit(int tiles, int slots) {
    share_.base += kMlaUnitOverhead + tiles;
    share_.slot += slots;
    ++share_.unit;
    next_piece_ = -1;
  }

  // The part of the unit that lies in the share.
  LATENTD_HOST_DEVICE void cut(MlaPiece& piece, int first, int tiles, const MlaSpan& span) {
    piece.first_tile = index_ == span.first ? 0 : begin_ - first;
    piece.last_tile = index_ == span.last ? tiles : end_ - first;
    piece.index = index_ - span.first;
    piece.count = span.last - span.first + 1;
    piece.first_slot = 2 * span.first + 1;
    pass_unit(tiles, 0);
  }

  // The next piece of the unit that begins in the share.
  LATENTD_HOST_DEVICE bool next_whole(MlaPiece& piece, int first, int tiles) {
    const int size = mla_invariant_tiles(share_.view, tiles);
    piece.count = mla_divide_up(tiles, size);
    piece.first_slot = share_.slot;
    if (next_piece_ < 0) next_piece_ = begin_ > first ? mla_divide_up(begin_ - first, size) : 0;
    piece.index = next_piece_;
    piece.first_tile = piece.index * size;
    if (piece.index >= piece.count || first + piece.first_tile >= end_) {
      pass_unit(tiles, piece.count > 1 ? piece.count : 0);
      return false;
    }
    piece.last_tile = piece.first_tile + size < tiles ? piece.first_tile + size : tiles;
    ++next_piece_;
    return true;
  }

  MlaShare share_;
  const RowView* rows_;
  int num_rows_;
  MlaDivision division_;
  int index_;
  int begin_;
  int end_;
  int next_piece_ = -1;
};

}  // namespace latentd::cuda

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

inline constexpr int kMlaMostShares = 160;  // and pieces of a unit

struct MlaDivision {
  std::int32_t heads = 0;
  std::int32_t group = 1;   // row tiles of a unit = CTAs that walk it side by side
  std::int32_t shares = 0;  // groups of CTAs, at most kMlaMostShares
  std::int32_t least = 2;   // key tiles that are worth a share
  std::int32_t invariant = 0;
};

// What lies before a place of the line, or what a unit adds to it.
struct MlaPrefix {
  std::int32_t cost = 0;    // length
  std::int32_t slots = 0;   // pieces of cut units (batch-invariant division only)
  std::int32_t places = 0;  // in the list of pieces
};

// Where a share begins: unit `unit` of rows[row] = view, which begins at `before` on the line.
struct MlaStart {
  RowView view;
  std::int32_t row = 0;  // the number of rows: the share is empty
  std::int32_t unit = 0;
  MlaPrefix before;
  std::int32_t total = 0;  // the length of the line
  std::int32_t used = 0;   // shares that it is cut into
};

// What the plan knows of all units together.
struct MlaTotals {
  std::int32_t cost = 0;
  std::int32_t units = 0;
  std::int32_t largest = 0;  // cost of a unit
};

// Key tiles [first_tile, last_tile) of a unit. `index` of `count` pieces; partial results lie in
// slot mla_slot(piece, index).
struct alignas(16) MlaPiece {
  RowView view;
  std::int32_t unit = 0;
  std::int32_t context = 0;  // keys that the unit's last query sees
  std::int32_t first_tile = 0;
  std::int32_t last_tile = 0;
  std::int32_t index = 0;
  std::int32_t count = 0;
  std::int32_t first_slot = 0;
  std::int32_t padding = 0;
};

// What a group of CTAs reads first: its first piece, and where the list holds the others.
struct alignas(16) MlaShare {
  MlaPiece first;
  std::int32_t pieces = 0;
  std::int32_t others = 0;
  std::int32_t padding[2] = {};
};
inline constexpr int kMlaKnownPages =
    32;  // page-table entries of the first piece that a plan holds

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
  return {tiles + kMlaUnitOverhead, pieces > 1 ? pieces : 0, pieces};
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
// before `place`. The line times the shares stays below 2^32: 2 billion keys on 132 SMs.
LATENTD_HOST_DEVICE constexpr int mla_cut(int share, int total, int used) {
  return static_cast<int>(static_cast<std::uint32_t>(share) * static_cast<std::uint32_t>(total) /
                          static_cast<std::uint32_t>(used));
}
LATENTD_HOST_DEVICE constexpr int mla_share_of(int place, int total, int used) {
  return static_cast<int>(
      ((static_cast<std::uint32_t>(place) + 1) * static_cast<std::uint32_t>(used) - 1) /
      static_cast<std::uint32_t>(total));
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

// Places that the list of pieces needs.
constexpr std::int64_t mla_places(const MlaDivision& d, std::int64_t max_tokens,
                                  std::int64_t max_rows) {
  const std::int64_t units = max_tokens * d.heads / kMlaTileRows + max_rows;
  return units + d.shares + (d.invariant != 0 ? mla_slots(d, max_rows) : 0);
}

// The slot of a unit's piece `index`.
LATENTD_HOST_DEVICE constexpr int mla_slot(const MlaPiece& piece, const MlaDivision& d, int index) {
  if (d.invariant != 0) return piece.first_slot + index;
  return index == 0 ? piece.first_slot : piece.first_slot - 1 + 2 * index;
}

// Where share `share` begins; prefix[r] for r in 0 .. num_rows, the last one the totals.
LATENTD_HOST_DEVICE inline MlaStart mla_start(const RowView* rows, const MlaPrefix* prefix,
                                              int num_rows, const MlaTotals& totals,
                                              const MlaDivision& d, int share) {
  MlaStart result;
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
  result.before = prefix[low];
  for (result.row = low; result.row < num_rows; ++result.row) {
    result.view = rows[result.row];
    const int units = mla_units(result.view, d);
    for (result.unit = 0; result.unit < units; ++result.unit) {
      const MlaPrefix unit = mla_cost(result.view, d, result.unit);
      const bool found =
          d.invariant != 0
              ? result.before.cost + unit.cost > begin
              : mla_span(result.before.cost, unit.cost, result.total, result.used).last >= share;
      if (found) return result;
      result.before.cost += unit.cost;
      result.before.slots += unit.slots;
      result.before.places += unit.places;
    }
  }
  return result;
}

// The pieces of a share, in the order of the line.
class MlaWalk {
 public:
  LATENTD_HOST_DEVICE MlaWalk(const MlaStart& start, const RowView* rows, int num_rows,
                              const MlaDivision& division, int index)
      : start_(start),
        rows_(rows),
        num_rows_(num_rows),
        division_(division),
        index_(index),
        begin_(start.used > 0 ? mla_cut(index, start.total, start.used) : 0),
        end_(start.used > 0 ? mla_cut(index + 1, start.total, start.used) : 0) {}

  // False when the share has no more.
  LATENTD_HOST_DEVICE bool next(MlaPiece& piece) {
    while (start_.row < num_rows_) {
      if (start_.unit >= mla_units(start_.view, division_)) {
        if (++start_.row < num_rows_) start_.view = rows_[start_.row];
        start_.unit = 0;
        continue;
      }
      const int tiles = mla_key_tiles(start_.view, division_, start_.unit);
      piece.view = start_.view;
      piece.unit = start_.unit;
      piece.context = mla_context(start_.view, division_, start_.unit);
      // The unit's first key tile lies behind what starting it costs.
      const int first = start_.before.cost + kMlaUnitOverhead;
      if (division_.invariant != 0) {
        if (first >= end_) return false;
        if (next_whole(piece, first, tiles)) return true;
      } else {
        const MlaSpan span =
            mla_span(start_.before.cost, tiles + kMlaUnitOverhead, start_.total, start_.used);
        if (span.first > index_) return false;
        cut(piece, first, tiles, span);
        return true;
      }
    }
    return false;
  }

  // Where the list holds the piece that `next` gave last: behind one another for a share.
  LATENTD_HOST_DEVICE int place() const { return place_; }

 private:
  LATENTD_HOST_DEVICE void pass_unit(int tiles, int slots) {
    start_.before.cost += kMlaUnitOverhead + tiles;
    start_.before.slots += slots;
    start_.before.places += slots > 1 ? slots : 1;
    ++start_.unit;
    next_piece_ = -1;
  }

  // The part of the unit that lies in the share.
  LATENTD_HOST_DEVICE void cut(MlaPiece& piece, int first, int tiles, const MlaSpan& span) {
    piece.first_tile = index_ == span.first ? 0 : begin_ - first;
    piece.last_tile = index_ == span.last ? tiles : end_ - first;
    piece.index = index_ - span.first;
    piece.count = span.last - span.first + 1;
    piece.first_slot = 2 * span.first + 1;
    place_ = start_.before.places + index_;
    pass_unit(tiles, 0);
  }

  // The next piece of the unit that begins in the share.
  LATENTD_HOST_DEVICE bool next_whole(MlaPiece& piece, int first, int tiles) {
    const int size = mla_invariant_tiles(start_.view, tiles);
    piece.count = mla_divide_up(tiles, size);
    piece.first_slot = start_.before.slots;
    if (next_piece_ < 0) next_piece_ = begin_ > first ? mla_divide_up(begin_ - first, size) : 0;
    piece.index = next_piece_;
    piece.first_tile = piece.index * size;
    if (piece.index >= piece.count || first + piece.first_tile >= end_) {
      pass_unit(tiles, piece.count > 1 ? piece.count : 0);
      return false;
    }
    piece.last_tile = piece.first_tile + size < tiles ? piece.first_tile + size : tiles;
    place_ = start_.before.places + piece.index;
    ++next_piece_;
    return true;
  }

  MlaStart start_;
  const RowView* rows_;
  int num_rows_;
  MlaDivision division_;
  int index_;
  int begin_;
  int end_;
  int next_piece_ = -1;
  int place_ = 0;
};

}  // namespace latentd::cuda

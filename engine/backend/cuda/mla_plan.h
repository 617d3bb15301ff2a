// How the 512 + 64 attention kernel divides a step over the GPU: pure functions of its work.
//
// The units of all work (mla_work.h) lie on one line, each as long as its key tiles plus what
// starting it costs; the line is cut into equal shares, one for each group of CTAs, so a unit may
// be cut into pieces. Pieces of a unit are merged in the order of their keys.
//
// Batch-invariant division cuts a unit by its own length only and hands whole pieces to the share
// in which they begin: neighbours move pieces between CTAs and never change them.
//
// Contract: host and device code without state; tested on the host.
#pragma once

#include <cstdint>

#include "engine/backend/cuda/mla_work.h"

namespace latentd::cuda {

// What a piece costs beside its key tiles, in key tiles: queries, first keys, results.
inline constexpr int kMlaUnitOverhead = 1;
// Under batch invariance only decode rows are cut: into pieces of so many key tiles, where that
// makes a few; of twice as many and more in longer units, at most MlaDivision::invariant pieces.
// What it costs: docs/adr/0005-batch-invariant.md.
inline constexpr int kMlaInvariantTiles = 8;
inline constexpr int kMlaFewPieces = 8;
inline constexpr int kMlaInvariantPieces = 32;  // what the engine asks for

// Shares, and so pieces of a unit.
inline constexpr int kMlaMostShares = 160;

// Query vectors that the kernel over an fp8 cache multiplies with at a time; 0: more than it is
// for. How many tokens the rows hold is only guessed from their mean, which batch invariance
// forbids.
inline constexpr int kMlaFp8MostQueries = 32;
constexpr int mla_fp8_queries(const MlaDivision& d, const BatchView& batch) {
  const std::int64_t rows = batch.num_rows;
  const std::int64_t vectors = (d.invariant != 0 ? rows : batch.num_tokens) * std::int64_t{d.heads};
  if (vectors <= rows * kMlaFp8MostQueries / 2) return kMlaFp8MostQueries / 2;
  return vectors <= rows * kMlaFp8MostQueries ? kMlaFp8MostQueries : 0;
}

// What lies before a place of the line, or what a unit adds to it.
struct MlaPrefix {
  std::int32_t cost = 0;    // length
  std::int32_t slots = 0;   // batch-invariant division: pieces of cut units
  std::int32_t places = 0;  // in the list of pieces; without batch invariance: units
  std::int32_t segments = 0;
};

// Where a share begins: unit `unit` of works[at] = work, which begins at `before` on the line.
struct MlaStart {
  MlaWork work;
  std::int32_t at = 0;  // the number of works: the share is empty
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

// Key tiles [first_tile, last_tile) of a unit. `index` of `count` pieces. Cut units leave partial
// results in row mla_partial_row(piece, index) and behind.
struct alignas(16) MlaPiece {
  RowView view;
  std::int32_t unit = 0;
  std::int32_t first_tile = 0;
  std::int32_t last_tile = 0;
  std::int32_t index = 0;
  std::int32_t count = 0;
  std::int32_t first_slot = 0;
  std::int32_t next_segment = 0;  // of all
  std::int32_t padding = 0;
  MlaSegment keys;  // of its first key tile
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

// Key tiles of a piece under batch invariance: a power of two from the unit's own length.
LATENTD_HOST_DEVICE constexpr int mla_invariant_tiles(const MlaWork& work, const MlaDivision& d,
                                                      int key_tiles) {
  if (work.view.count != 1) return key_tiles;
  if (key_tiles <= kMlaInvariantTiles * kMlaFewPieces) return kMlaInvariantTiles;
  int tiles = 2 * kMlaInvariantTiles;
  while (tiles * d.invariant < key_tiles) tiles *= 2;
  return tiles;
}

// What a unit adds to the line.
LATENTD_HOST_DEVICE constexpr MlaPrefix mla_cost(const MlaWork& work, const MlaDivision& d,
                                                 int unit) {
  const int tiles = mla_key_tiles(work, d, unit);
  if (d.invariant == 0) return {tiles + kMlaUnitOverhead, 0, 1, work.segments};
  const int pieces = mla_divide_up(tiles, mla_invariant_tiles(work, d, tiles));
  return {tiles + kMlaUnitOverhead, pieces > 1 ? pieces : 0, pieces, 0};
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

// The shares that have a piece of a unit at [base, base + cost) of the line; `whole`: they have
// nothing else.
struct MlaSpan {
  std::int32_t first = 0;
  std::int32_t last = 0;
  bool whole = false;
};
LATENTD_HOST_DEVICE constexpr MlaSpan mla_span(int base, int cost, int total, int used) {
  int near = total / used / 16;  // cuts so near to an end move there
  if (near > (cost - 1) / 2) near = (cost - 1) / 2;
  if (near < kMlaUnitOverhead) near = kMlaUnitOverhead;
  const int first = mla_share_of(base + near, total, used);
  int last = mla_share_of(base + cost - near - 1, total, used);
  if (last < first) last = first;
  const int begins = mla_cut(first, total, used) - base;
  const int ends = mla_cut(last + 1, total, used) - base - cost;
  return {first, last, begins <= near && -begins <= near && ends <= near && -ends <= near};
}

// Slots of partial results that cut units may use, each of `group` row tiles.
constexpr std::int64_t mla_slots(const MlaDivision& d, std::int64_t max_rows) {
  if (d.invariant == 0) return std::int64_t{2} * d.shares;
  const int units = mla_divide_up(mla_divide_up(d.heads, kMlaTileRows), d.group);
  return max_rows * units * d.invariant;
}

// Rows of partial results.
constexpr std::int64_t mla_partial_rows(const MlaDivision& d, std::int64_t max_rows) {
  return mla_slots(d, max_rows) * d.group * kMlaTileRows;
}

// Places that the list of pieces needs.
constexpr std::int64_t mla_places(const MlaDivision& d, std::int64_t max_tokens,
                                  std::int64_t max_rows) {
  const std::int64_t units = max_tokens * d.heads / kMlaTileRows + max_rows;
  return units + d.shares + (d.invariant != 0 ? mla_slots(d, max_rows) : 0);
}

// Segments of all works: a row is the first of a unit, or has its own keys and begins prefixes.
constexpr std::int64_t mla_most_segments(std::int64_t max_rows) {
  return max_rows * (kMaxPrefixDepth + 1);
}

// The slot of a unit's piece `index`.
LATENTD_HOST_DEVICE constexpr int mla_slot(const MlaDivision& d, int first_slot, int index) {
  if (d.invariant != 0) return first_slot + index;
  return index == 0 ? first_slot : first_slot - 1 + 2 * index;
}

// The row of partial results of the first query vector in row tile `rank`, of the unit's piece
// `index`.
LATENTD_HOST_DEVICE constexpr int mla_partial_row(const MlaPiece& piece, const MlaDivision& d,
                                                  int index, int rank) {
  return (mla_slot(d, piece.first_slot, index) * d.group + rank) * kMlaTileRows;
}

// Passes units at once that are equal and end before `begin`.
LATENTD_HOST_DEVICE inline void mla_pass_equal_units(MlaStart& start, const MlaDivision& d,
                                                     int units, int begin) {
  const MlaPrefix unit = mla_cost(start.work, d, 0);
  if (units < 2 || unit.cost != mla_cost(start.work, d, units - 1).cost) return;
  int passed = (begin - start.before.cost) / unit.cost - 1;
  if (passed > units - 1) passed = units - 1;
  if (passed <= 0) return;
  start.unit = passed;
  start.before.cost += passed * unit.cost;
  start.before.slots += passed * unit.slots;
  start.before.places += passed * unit.places;
}

// Where share `share` begins; prefix[i] for i in 0 .. num_works, the last one the totals.
LATENTD_HOST_DEVICE inline MlaStart mla_start(const MlaWork* works, const MlaPrefix* prefix,
                                              int num_works, const MlaTotals& totals,
                                              const MlaDivision& d, int share) {
  MlaStart result;
  result.at = num_works;
  result.total = totals.cost;
  result.used = mla_used_shares(totals, d);
  if (totals.cost == 0 || share >= result.used) return result;
  const int begin = mla_cut(share, result.total, result.used);
  int low = 0;  // the last work with prefix <= begin
  int high = num_works;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (prefix[middle].cost <= begin ? low : high) = middle;
  }
  result.before = prefix[low];
  for (result.at = low; result.at < num_works; ++result.at) {
    result.work = works[result.at];
    const int units = mla_units(result.work, d);
    result.unit = 0;
    mla_pass_equal_units(result, d, units, begin);
    for (; result.unit < units; ++result.unit) {
      const MlaPrefix unit = mla_cost(result.work, d, result.unit);
      const bool found =
          d.invariant != 0
              ? result.before.cost + unit.cost > begin
              : mla_span(result.before.cost, unit.cost, result.total, result.used).last >= share;
      if (found) return result;
      result.before.cost += unit.cost;
      result.before.slots += unit.slots;
      result.before.places += unit.places;
      result.before.segments += unit.segments;
    }
  }
  return result;
}

// The pieces of a share, in the order of the line.
class MlaWalk {
 public:
  LATENTD_HOST_DEVICE MlaWalk(const MlaStart& start, const MlaWork* works, int num_works,
                              const MlaSegment* segments, const MlaDivision& division, int index)
      : start_(start),
        works_(works),
        num_works_(num_works),
        segments_(segments),
        division_(division),
        index_(index),
        begin_(start.used > 0 ? mla_cut(index, start.total, start.used) : 0),
        end_(start.used > 0 ? mla_cut(index + 1, start.total, start.used) : 0) {}

  // False when the share has no more.
  LATENTD_HOST_DEVICE bool next(MlaPiece& piece) {
    while (start_.at < num_works_) {
      if (start_.unit >= mla_units(start_.work, division_)) {
        if (++start_.at < num_works_) start_.work = works_[start_.at];
        start_.unit = 0;
        continue;
      }
      const int tiles = mla_key_tiles(start_.work, division_, start_.unit);
      piece.view = start_.work.view;
      piece.unit = start_.unit;
      if (start_.work.segments == 0) piece.keys = mla_row_keys(start_.work, division_, start_.unit);
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
  LATENTD_HOST_DEVICE void pass_unit(int tiles, int slots, int places) {
    start_.before.cost += kMlaUnitOverhead + tiles;
    start_.before.slots += slots;
    start_.before.places += places;
    start_.before.segments += start_.work.segments;
    ++start_.unit;
    next_piece_ = -1;
  }

  // The part of the unit that lies in the share.
  LATENTD_HOST_DEVICE void cut(MlaPiece& piece, int first, int tiles, const MlaSpan& span) {
    piece.index = index_ - span.first;
    piece.count = span.last - span.first + 1;
    if (span.whole && piece.count <= tiles) {
      // Evenly: the line would charge the first for starting the unit, but all pieces start.
      piece.first_tile = piece.index * tiles / piece.count;
      piece.last_tile = (piece.index + 1) * tiles / piece.count;
    } else {
      piece.first_tile = index_ == span.first ? 0 : begin_ - first;
      piece.last_tile = index_ == span.last ? tiles : end_ - first;
    }
    piece.first_slot = 2 * span.first + 1;
    if (start_.work.segments > 0) {
      piece.next_segment = start_.before.segments;
      do {
        piece.keys = segments_[piece.next_segment++];
      } while (piece.keys.last_tile <= piece.first_tile);
    }
    place_ = start_.before.places + index_;
    pass_unit(tiles, 0, 1);
  }

  // The next piece of the unit that begins in the share.
  LATENTD_HOST_DEVICE bool next_whole(MlaPiece& piece, int first, int tiles) {
    const int size = mla_invariant_tiles(start_.work, division_, tiles);
    piece.count = mla_divide_up(tiles, size);
    piece.first_slot = start_.before.slots;
    if (next_piece_ < 0) next_piece_ = begin_ > first ? mla_divide_up(begin_ - first, size) : 0;
    piece.index = next_piece_;
    piece.first_tile = piece.index * size;
    if (piece.index >= piece.count || first + piece.first_tile >= end_) {
      pass_unit(tiles, piece.count > 1 ? piece.count : 0, piece.count);
      return false;
    }
    piece.last_tile = piece.first_tile + size < tiles ? piece.first_tile + size : tiles;
    place_ = start_.before.places + piece.index;
    ++next_piece_;
    return true;
  }

  MlaStart start_;
  const MlaWork* works_;
  int num_works_;
  const MlaSegment* segments_;
  MlaDivision division_;
  int index_;
  int begin_;
  int end_;
  int next_piece_ = -1;
  int place_ = 0;
};

}  // namespace latentd::cuda

// Rows that share keys, as units of the 512 + 64 attention kernel.
//
// Rows that share a prefix follow one another and hold one token each (BatchView::prefixes). As
// many of them as a unit's row tiles hold become one unit. Its keys are segments, row by row: of
// the first row all, of each further row what it has not in common with the row before. A segment
// ends where the rows that see it become fewer, so each is seen by a run of the unit's rows, and
// every row sees its keys in their order. Whole key tiles are shared: a prefix that ends within one
// leaves that to the rows.
//
// A new unit reads again what its first row has in common with the row before. So units end where
// that is little, by the rows that they hold.
//
// Contract: host and device code without state; tested on the host. Not for batch-invariant
// division, which shares nothing: bits would depend on who shares.
#pragma once

#include <cstdint>

#include "engine/backend/cuda/mla_work.h"

namespace latentd::cuda {

// Key tiles that a row has in common with the row before it.
LATENTD_HOST_DEVICE constexpr int mla_common_tiles(const BatchView& batch, int row) {
  for (int p = batch.row_prefixes[row]; p >= 0; p = batch.prefixes[p].parent) {
    if (batch.prefixes[p].first_row < row) return batch.prefixes[p].last_key / kMlaTileKeys;
  }
  return 0;
}

// Whether units of several rows can be.
LATENTD_HOST_DEVICE constexpr bool mla_shares(const BatchView& batch, const MlaDivision& d) {
  return batch.prefixes != nullptr && d.invariant == 0 && d.heads * 2 <= d.group * kMlaTileRows;
}

// The row behind the unit that begins with row `first`.
LATENTD_HOST_DEVICE constexpr int mla_unit_end(const BatchView& batch, const MlaDivision& d,
                                               int first) {
  const int most = d.group * kMlaTileRows / d.heads;
  int best = first + 1;
  int best_again = 0;
  for (int row = first + 1; row - first <= most; ++row) {
    const int again = row < batch.num_rows ? mla_common_tiles(batch, row) : 0;
    if (again == 0) return row;
    // Read again for each row of the unit, the unit's own beginning counted as a key tile.
    if (row == first + 1 || (again + 1) * (best - first) <= (best_again + 1) * (row - first)) {
      best = row;
      best_again = again;
    }
  }
  return best;
}

// The segments of a unit of rows [first_row, first_row + num_rows), in the order of its key tiles.
class MlaSegments {
 public:
  LATENTD_HOST_DEVICE MlaSegments(const BatchView& batch, int heads, int first_row, int num_rows)
      : batch_(batch), heads_(heads), first_row_(first_row), num_rows_(num_rows) {}

  // False when there are no more.
  LATENTD_HOST_DEVICE bool next(MlaSegment& segment) {
    if (row_ == num_rows_) return false;
    const RowView& view = batch_.rows[first_row_ + row_];
    // The outermost prefix that has more keys than the row has met; then the row's own keys.
    const PrefixView* prefix = nullptr;
    for (int p = batch_.row_prefixes[first_row_ + row_]; p >= 0; p = batch_.prefixes[p].parent) {
      if (batch_.prefixes[p].last_key / kMlaTileKeys > met_) prefix = &batch_.prefixes[p];
    }
    int past = row_ + 1;
    int context = view.start + view.count;
    if (prefix != nullptr) {
      past = prefix->first_row + prefix->num_rows - first_row_;
      if (past > num_rows_) past = num_rows_;
      context = prefix->last_key / kMlaTileKeys * kMlaTileKeys;
    }
    const int behind = tiles_ - met_;
    met_ = mla_divide_up(context, kMlaTileKeys);
    tiles_ = behind + met_;
    segment = {view.slot, behind, tiles_, context, row_ * heads_, past * heads_};
    if (prefix == nullptr && ++row_ < num_rows_) {
      met_ = mla_common_tiles(batch_, first_row_ + row_);
    }
    return true;
  }

 private:
  const BatchView& batch_;
  int heads_;
  int first_row_;
  int num_rows_;
  int row_ = 0;    // of the unit
  int met_ = 0;    // key tiles of the row
  int tiles_ = 0;  // of the unit
};

// The work of rows [first, last): of several, one unit.
LATENTD_HOST_DEVICE inline MlaWork mla_work(const BatchView& batch, const MlaDivision& d, int first,
                                            int last) {
  MlaWork work;
  work.view = batch.rows[first];
  if (last - first < 2) return work;
  work.first_row = first;
  work.view.count = last - first;
  // What a segment's vectors see is said by the segment alone.
  work.view.start = 1 << 30;
  MlaSegments segments(batch, d.heads, first, last - first);
  for (MlaSegment segment; segments.next(segment); ++work.segments) work.tiles = segment.last_tile;
  return work;
}

}  // namespace latentd::cuda

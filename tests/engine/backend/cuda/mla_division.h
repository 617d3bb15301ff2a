// A step's attention divided on the host as the plan kernel and the CTAs do it.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "engine/backend/cuda/mla_plan.h"
#include "engine/backend/cuda/mla_sharing.h"

namespace latentd::cuda {

struct MlaStep {
  std::vector<RowView> rows;
  std::vector<PrefixView> prefixes;
  std::vector<std::int32_t> row_prefixes;  // empty: none shares anything

  BatchView batch() const {
    BatchView batch;
    batch.num_rows = static_cast<std::int32_t>(rows.size());
    batch.rows = rows.data();
    if (!prefixes.empty()) {
      batch.prefixes = prefixes.data();
      batch.row_prefixes = row_prefixes.data();
    }
    return batch;
  }
};

struct Division {
  std::vector<MlaWork> works;
  MlaTotals totals;
  std::vector<MlaPrefix> prefix;
  std::vector<MlaSegment> segments;
  std::vector<std::vector<MlaPiece>> shares;
  std::set<int> places;
};

inline std::vector<MlaWork> list_work(const MlaStep& step, const MlaDivision& d) {
  const BatchView batch = step.batch();
  std::vector<MlaWork> works;
  for (int row = 0; row < batch.num_rows;) {
    const int end = mla_shares(batch, d) ? mla_unit_end(batch, d, row) : row + 1;
    works.push_back(mla_work(batch, d, row, end));
    row = end;
  }
  return works;
}

inline Division divide(const MlaStep& step, const MlaDivision& d) {
  Division result;
  result.works = list_work(step, d);
  const BatchView batch = step.batch();
  MlaPrefix sum;
  for (const MlaWork& work : result.works) {
    result.prefix.push_back(sum);
    for (int unit = 0; unit < mla_units(work, d); ++unit) {
      const MlaPrefix one = mla_cost(work, d, unit);
      sum.cost += one.cost;
      sum.slots += one.slots;
      sum.places += one.places;
      sum.segments += one.segments;
      ++result.totals.units;
      result.totals.largest = std::max(result.totals.largest, one.cost);
    }
    if (work.segments == 0) continue;
    MlaSegments segments(batch, d.heads, work.first_row, work.view.count);
    for (MlaSegment segment; segments.next(segment);) result.segments.push_back(segment);
  }
  EXPECT_EQ(result.segments.size(), static_cast<std::size_t>(sum.segments));
  result.prefix.push_back(sum);
  result.totals.cost = sum.cost;
  const auto num_works = static_cast<int>(result.works.size());
  for (int share = 0; share < d.shares; ++share) {
    MlaWalk walk(
        mla_start(result.works.data(), result.prefix.data(), num_works, result.totals, d, share),
        result.works.data(), num_works, result.segments.data(), d, share);
    std::vector<MlaPiece> pieces;
    MlaPiece piece;
    int last_place = 0;
    for (; walk.next(piece); pieces.push_back(piece)) {
      EXPECT_TRUE(result.places.insert(walk.place()).second) << "a place is used twice";
      EXPECT_TRUE(pieces.empty() || walk.place() == last_place + 1);
      last_place = walk.place();
    }
    result.shares.push_back(std::move(pieces));
  }
  return result;
}

// Pieces of each unit, by the first token of its work and its number there.
using MlaUnit = std::pair<int, int>;

inline std::map<MlaUnit, std::vector<MlaPiece>> by_unit(const Division& division) {
  std::map<MlaUnit, std::vector<MlaPiece>> units;
  for (const auto& share : division.shares) {
    for (const MlaPiece& piece : share) {
      units[{piece.view.first_token, piece.unit}].push_back(piece);
    }
  }
  return units;
}

// Key tiles of all units are met once and in order, pieces of a unit know one another, and slots of
// cut units are their own.
inline void expect_whole_units(const MlaStep& step, const MlaDivision& d,
                               const Division& division) {
  const auto num_rows = static_cast<std::int64_t>(step.rows.size());
  const auto units = by_unit(division);
  std::set<int> slots;
  std::size_t expected = 0;
  for (const MlaWork& work : division.works) {
    for (int unit = 0; unit < mla_units(work, d); ++unit, ++expected) {
      const auto found = units.find({work.view.first_token, unit});
      ASSERT_NE(found, units.end()) << "at token " << work.view.first_token << ", unit " << unit;
      const std::vector<MlaPiece>& pieces = found->second;
      int next = 0;
      for (std::size_t i = 0; i < pieces.size(); ++i) {
        ASSERT_EQ(pieces[i].first_tile, next);
        ASSERT_GT(pieces[i].last_tile, next);
        ASSERT_EQ(pieces[i].index, static_cast<int>(i));
        ASSERT_EQ(pieces[i].count, static_cast<int>(pieces.size()));
        ASSERT_EQ(pieces[i].first_slot, pieces[0].first_slot);
        next = pieces[i].last_tile;
        if (pieces.size() == 1) continue;
        const int slot = mla_slot(d, pieces[i].first_slot, pieces[i].index);
        ASSERT_TRUE(slots.insert(slot).second) << "slot " << slot << " is used twice";
        ASSERT_GE(slot, 0);
        ASSERT_LT(slot, mla_slots(d, num_rows));
      }
      ASSERT_EQ(next, mla_key_tiles(work, d, unit));
    }
  }
  ASSERT_EQ(units.size(), expected);
  ASSERT_LE(static_cast<std::int64_t>(division.segments.size()), mla_most_segments(num_rows));
  if (step.rows.empty() || division.places.empty()) return;
  const RowView& last = step.rows.back();
  ASSERT_LT(*division.places.rbegin(), mla_places(d, last.first_token + last.count, num_rows));
}

}  // namespace latentd::cuda

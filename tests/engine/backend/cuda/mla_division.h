// A step's attention divided on the host as the plan kernel and the CTAs do it.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "engine/backend/cuda/mla_chain.h"

namespace latentd::cuda {

struct MlaStep {
  std::vector<RowView> rows;
  std::vector<PrefixView> prefixes;
  std::vector<std::int32_t> row_prefixes;  // empty: none shares anything
};

struct Division {
  std::vector<MlaWork> works;  // of prefixes, then of rows
  MlaTotals totals;
  std::vector<MlaPrefix> prefix;
  std::vector<std::vector<MlaPiece>> shares;
  std::set<int> places;
  std::vector<MlaChain> chains;
  std::vector<MlaParts> parts;
};

inline Division divide(const MlaStep& step, const MlaDivision& d) {
  Division result;
  for (const PrefixView& prefix : step.prefixes) {
    result.works.push_back(mla_prefix_work(prefix, step.rows.data()));
  }
  const auto num_prefixes = static_cast<int>(step.prefixes.size());
  const auto innermost = [&](std::size_t r) {
    return num_prefixes > 0 ? step.row_prefixes[r] : -1;
  };
  for (std::size_t r = 0; r < step.rows.size(); ++r) {
    result.works.push_back(mla_row_work(step.rows[r], step.prefixes.data(), innermost(r)));
  }
  MlaPrefix sum;
  for (const MlaWork& work : result.works) {
    result.prefix.push_back(sum);
    for (int unit = 0; unit < mla_units(work, d); ++unit) {
      const MlaPrefix one = mla_cost(work, d, unit);
      sum.cost += one.cost;
      sum.slots += one.slots;
      sum.places += one.places;
      ++result.totals.units;
      result.totals.largest = std::max(result.totals.largest, one.cost);
    }
  }
  result.prefix.push_back(sum);
  result.totals.cost = sum.cost;
  result.parts.resize(static_cast<std::size_t>(sum.places));
  for (std::size_t r = 0; r < step.rows.size(); ++r) {
    if (result.works[step.prefixes.size() + r].chained == 0) continue;
    result.chains.push_back(mla_chain(result.works.data(), result.prefix.data(), num_prefixes,
                                      step.prefixes.data(), innermost(r), static_cast<int>(r), d));
  }
  const auto num_works = static_cast<int>(result.works.size());
  for (int share = 0; share < d.shares; ++share) {
    MlaWalk walk(
        mla_start(result.works.data(), result.prefix.data(), num_works, result.totals, d, share),
        result.works.data(), num_works, d, share);
    std::vector<MlaPiece> pieces;
    MlaPiece piece;
    int last_place = 0;
    for (; walk.next(piece); pieces.push_back(piece)) {
      EXPECT_TRUE(result.places.insert(walk.place()).second) << "a place is used twice";
      EXPECT_TRUE(pieces.empty() || walk.place() == last_place + 1);
      last_place = walk.place();
      if (piece.chain >= 0 && piece.index == 0) {
        result.parts[static_cast<std::size_t>(walk.unit())] = mla_parts(piece);
      }
    }
    result.shares.push_back(std::move(pieces));
  }
  return result;
}

}  // namespace latentd::cuda

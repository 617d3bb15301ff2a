// How the 512 + 64 attention divides a step whose rows share nothing: every key of every query is
// met exactly once, whatever the rows, and pieces of a unit know one another.
#include "engine/backend/cuda/mla_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "tests/engine/backend/cuda/mla_division.h"

namespace latentd::cuda {
namespace {

constexpr unsigned kSeed = 20261130;

// And the last query of a row sees all of its keys.
void expect_complete(const std::vector<RowView>& rows, const MlaDivision& d) {
  const MlaStep step{rows, {}, {}};
  const Division division = divide(step, d);
  expect_whole_units(step, d, division);
  for (const auto& [unit, pieces] : by_unit(division)) {
    for (const MlaPiece& piece : pieces) {
      ASSERT_LE(piece.keys.context, piece.view.start + piece.view.count);
      ASSERT_EQ(piece.keys.last_tile, pieces.back().last_tile);
    }
  }
  for (const MlaWork& work : division.works) {
    if (work.view.count == 0) continue;
    ASSERT_EQ(mla_context(work, d, mla_units(work, d) - 1), work.view.start + work.view.count);
  }
}

std::vector<RowView> random_rows(std::mt19937& random) {
  std::vector<RowView> rows(random() % 40);
  int token = 0;
  for (RowView& row : rows) {
    row.first_token = token;
    const unsigned kind = random() % 8;
    row.count = kind == 0 ? 0 : kind < 6 ? 1 : kind == 6 ? 2 : 1 + static_cast<int>(random() % 300);
    row.start = static_cast<int>(random() % (random() % 10 == 0 ? 131072 : 700));
    token += row.count;
  }
  return rows;
}

TEST(MlaPlan, MeetsEveryKeyTileOfEveryUnitOnce) {
  std::mt19937 random(kSeed);
  for (int trial = 0; trial < 1500; ++trial) {
    const std::vector<RowView> rows = random_rows(random);
    MlaDivision d;
    d.heads = 1 + static_cast<int>(random() % 128);
    d.group = 1 + static_cast<int>(random() % 2);
    d.shares = (1 + static_cast<int>(random() % 132) + d.group - 1) / d.group;
    d.least = 1 + static_cast<int>(random() % 8);
    d.invariant = random() % 2 == 0 ? 0 : kMlaFewPieces << random() % 4;
    SCOPED_TRACE("trial " + std::to_string(trial) + ", seed " + std::to_string(kSeed));
    expect_complete(rows, d);
    if (HasFatalFailure()) return;
  }
}

int most_tiles(const Division& division) {
  int most = 0;
  for (const auto& share : division.shares) {
    int tiles = 0;
    for (const MlaPiece& piece : share) tiles += piece.last_tile - piece.first_tile;
    most = std::max(most, tiles);
  }
  return most;
}

TEST(MlaPlan, SharesOfALongAndManyShortRowsAreNearlyEven) {
  MlaDivision d;
  d.heads = 16;
  d.shares = 132;
  std::vector<RowView> rows;
  for (int i = 0; i < 65; ++i) rows.push_back({i, i, 1, i == 7 ? 131071 : 499});
  EXPECT_LE(most_tiles(divide({rows, {}, {}}, d)), (2048 + 65 * 9) / 132 * 9 / 8 + 1);
}

TEST(MlaPlan, UnitsOfOneLengthAreCutAlike) {
  MlaDivision d;
  d.heads = 16;
  d.shares = 132;
  struct Uniform {
    int batch, context, pieces, most;
  };
  for (const Uniform u : {Uniform{128, 1024, 1, 16},
                          {128, 8192, 1, 128},
                          {256, 2048, 1, 64},
                          {32, 8192, 4, 32},
                          {32, 2048, 4, 8},
                          {8, 4096, 16, 4},
                          {1, 4096, 32, 2}}) {
    std::vector<RowView> rows;
    for (int i = 0; i < u.batch; ++i) rows.push_back({i, i, 1, u.context - 1});
    const Division division = divide({rows, {}, {}}, d);
    EXPECT_LE(most_tiles(division), u.most) << u.batch;
    for (const auto& [unit, pieces] : by_unit(division)) {
      EXPECT_EQ(pieces.size(), static_cast<std::size_t>(u.pieces)) << u.batch << ", " << u.context;
    }
  }
}

TEST(MlaPlan, SmallWorkTakesFewShares) {
  MlaDivision d;
  d.heads = 16;
  d.shares = 132;
  const Division division = divide({{{0, 0, 1, 63}}, {}, {}}, d);
  EXPECT_EQ(std::count_if(division.shares.begin(), division.shares.end(),
                          [](const auto& share) { return !share.empty(); }),
            1);
}

TEST(MlaPlan, AnFp8CacheIsReadForAsManyQueriesAsRowsHaveInTheMean) {
  const auto queries = [](int heads, int rows, int tokens, int invariant) {
    MlaDivision d;
    d.heads = heads;
    d.invariant = invariant;
    BatchView batch;
    batch.num_rows = rows;
    batch.num_tokens = tokens;
    return mla_fp8_queries(d, batch);
  };
  EXPECT_EQ(queries(1, 3, 3, 0), 16);
  EXPECT_EQ(queries(16, 3, 3, 0), 16);
  EXPECT_EQ(queries(16, 3, 4, 0), 32);
  EXPECT_EQ(queries(32, 3, 3, 0), 32);
  EXPECT_EQ(queries(16, 3, 7, 0), 0);
  EXPECT_EQ(queries(33, 3, 3, 0), 0);
  // Whatever other rows hold.
  EXPECT_EQ(queries(16, 3, 7, 32), 16);
  EXPECT_EQ(queries(20, 3, 7, 32), 32);
  EXPECT_EQ(queries(33, 3, 3, 32), 0);
}

TEST(MlaPlan, InvariantPiecesAreFewAndThenLong) {
  MlaDivision d;
  d.heads = 16;
  d.shares = 132;
  d.invariant = 32;
  // Keys of a decode row, its pieces, key tiles of each.
  constexpr int kCases[][3] = {{512, 1, 8},     {513, 2, 8},     {4096, 8, 8},    {4097, 5, 16},
                               {32768, 32, 16}, {32769, 17, 32}, {131072, 32, 64}};
  for (const auto& [keys, pieces, tiles] : kCases) {
    const auto made = by_unit(divide({{{0, 0, 1, keys - 1}}, {}, {}}, d)).at({0, 0});
    EXPECT_EQ(made.size(), static_cast<std::size_t>(pieces)) << keys;
    EXPECT_EQ(made.front().last_tile, tiles) << keys;
  }
}

TEST(MlaPlan, InvariantPiecesDependOnNothingButTheirRow) {
  std::mt19937 random(kSeed);
  for (int trial = 0; trial < 25; ++trial) {
    MlaDivision d;
    d.heads = 1 + static_cast<int>(random() % 128);
    d.group = d.heads > kMlaTileRows ? 2 : 1;
    d.shares = 132 / d.group;
    d.invariant = kMlaInvariantPieces;
    const std::vector<RowView> rows = random_rows(random);
    for (const auto& [unit, pieces] : by_unit(divide({rows, {}, {}}, d))) {
      RowView row = pieces.front().view;
      row.first_token = 0;
      const auto alone = by_unit(divide({{row}, {}, {}}, d)).at({0, unit.second});
      ASSERT_EQ(alone.size(), pieces.size()) << "trial " << trial << ", seed " << kSeed;
      for (std::size_t i = 0; i < pieces.size(); ++i) {
        ASSERT_EQ(alone[i].first_tile, pieces[i].first_tile);
        ASSERT_EQ(alone[i].last_tile, pieces[i].last_tile);
      }
    }
  }
}

}  // namespace
}  // namespace latentd::cuda

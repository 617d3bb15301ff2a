// How the 512 + 64 attention divides steps whose rows share prefixes: every key of every query
// vector is met exactly once, in whatever tree, in a page that is the vector's own, in the order of
// the keys.
#include "engine/backend/cuda/mla_sharing.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>

#include "tests/engine/backend/cuda/mla_division.h"

namespace latentd::cuda {
namespace {

constexpr unsigned kSeed = 20261201;

std::size_t size(int value) { return static_cast<std::size_t>(value); }

// Prefixes over some of rows [first, last), and within them.
void add_prefixes(std::mt19937& random, MlaStep& step, int first, int last, int parent, int depth) {
  const int begin = parent < 0 ? 0 : step.prefixes[size(parent)].last_key;
  while (first < last) {
    const int rows = 1 + static_cast<int>(random() % size(last - first));
    if (rows > 1 && depth < kMaxPrefixDepth && random() % 3 > 0) {
      const int keys = 1 + static_cast<int>(random() % (random() % 4 == 0 ? 9000 : 300));
      const int end = begin + (random() % 2 == 0 ? keys : (keys + 63) / 64 * 64);
      const auto self = static_cast<int>(step.prefixes.size());
      step.prefixes.push_back({first, rows, begin, end, parent});
      for (int r = first; r < first + rows; ++r) step.row_prefixes[size(r)] = self;
      add_prefixes(random, step, first, first + rows, self, depth + 1);
    }
    first += rows;
  }
}

// Rows of one token that share prefixes or do not, then rows of any count; row r has slot r.
MlaStep random_step(std::mt19937& random) {
  MlaStep step;
  const int decode = static_cast<int>(random() % 40);
  step.row_prefixes.assign(size(decode), -1);
  add_prefixes(random, step, 0, decode, -1, 0);
  int token = 0;
  for (int r = 0; r < decode; ++r, ++token) {
    const int prefix = step.row_prefixes[size(r)];
    const int shared = prefix < 0 ? 0 : step.prefixes[size(prefix)].last_key;
    const int own = random() % 3 == 0 ? 0 : static_cast<int>(random() % 400);
    step.rows.push_back({r, token, 1, shared + own});
  }
  for (unsigned more = random() % 4; more > 0; --more) {
    const int count = static_cast<int>(random() % 90);
    step.rows.push_back(
        {static_cast<int>(step.rows.size()), token, count, static_cast<int>(random() % 500)});
    step.row_prefixes.push_back(-1);
    token += count;
  }
  return step;
}

// Whose key it is: two rows have one in common exactly where they share the prefix that holds it.
int owner(const MlaStep& step, int row, int key) {
  int owner = static_cast<int>(step.prefixes.size()) + row;
  for (int p = step.row_prefixes[size(row)]; p >= 0; p = step.prefixes[size(p)].parent) {
    if (key < step.prefixes[size(p)].last_key) owner = p;
  }
  return owner;
}

struct Part {
  int first_key = 0;
  int last_key = 0;
};

// What the kernel does for a piece of some rows' unit, vector by vector.
void meet(const MlaStep& step, const Division& division, const MlaPiece& piece,
          const MlaDivision& d, std::map<int, std::vector<Part>>& parts) {
  const int vectors = std::min(piece.view.count * d.heads - piece.unit * d.group * kMlaTileRows,
                               d.group * kMlaTileRows);
  MlaSegment keys = piece.keys;
  int next = piece.next_segment;
  for (int t = piece.first_tile; t < piece.last_tile; ++t) {
    if (t >= keys.last_tile) keys = division.segments[size(next++)];
    ASSERT_LT(t, keys.last_tile);
    const int first_key = (t - keys.behind) * kMlaTileKeys;
    ASSERT_GE(first_key, 0);
    ASSERT_LT(first_key, keys.context);
    for (int i = 0; i < vectors; ++i) {
      const int vector = piece.unit * d.group * kMlaTileRows + i;
      if (vector < keys.first_vector || vector >= keys.last_vector) continue;
      const int token = vector / d.heads;
      const int end =
          std::min({first_key + kMlaTileKeys, keys.context, piece.view.start + token + 1});
      if (first_key >= end) continue;
      parts[piece.view.first_token * d.heads + vector].push_back({first_key, end});
      const int row = piece.view.start < 1 << 29 ? keys.slot : piece.view.first_token + token;
      ASSERT_EQ(owner(step, keys.slot, first_key), owner(step, row, first_key));
      ASSERT_EQ(owner(step, keys.slot, end - 1), owner(step, row, end - 1));
    }
  }
}

// And in their order, so that pieces of a unit merged by their index are.
void expect_every_key_once(const MlaStep& step, const MlaDivision& d, const Division& division) {
  std::map<int, std::vector<Part>> parts;
  for (const auto& [unit, pieces] : by_unit(division)) {
    for (const MlaPiece& piece : pieces) {
      meet(step, division, piece, d, parts);
      if (::testing::Test::HasFatalFailure()) return;
    }
  }
  for (const RowView& row : step.rows) {
    for (int i = 0; i < row.count * d.heads; ++i) {
      int next = 0;
      for (const Part& part : parts[row.first_token * d.heads + i]) {
        ASSERT_EQ(part.first_key, next) << "row of slot " << row.slot << ", vector " << i;
        next = part.last_key;
      }
      ASSERT_EQ(next, row.start + i / d.heads + 1)
          << "row of slot " << row.slot << ", vector " << i;
    }
  }
}

int key_tiles(const MlaStep& step, const MlaDivision& d) {
  int tiles = 0;
  for (const MlaWork& work : list_work(step, d)) {
    for (int unit = 0; unit < mla_units(work, d); ++unit) tiles += mla_key_tiles(work, d, unit);
  }
  return tiles;
}

MlaDivision random_division(std::mt19937& random) {
  MlaDivision d;
  d.heads = random() % 2 == 0 ? 16 : 1 + static_cast<int>(random() % 128);
  d.group = 1 + static_cast<int>(random() % 2);
  d.shares = (1 + static_cast<int>(random() % 132) + d.group - 1) / d.group;
  return d;
}

TEST(MlaSharing, MeetsEveryKeyOfEveryVectorOnceInWhateverTree) {
  std::mt19937 random(kSeed);
  int spared = 0;
  for (int trial = 0; trial < 300; ++trial) {
    const MlaStep step = random_step(random);
    const MlaDivision d = random_division(random);
    SCOPED_TRACE("trial " + std::to_string(trial) + ", seed " + std::to_string(kSeed));
    const Division division = divide(step, d);
    expect_whole_units(step, d, division);
    if (HasFatalFailure()) return;
    expect_every_key_once(step, d, division);
    if (HasFatalFailure()) return;
    const int alone = key_tiles({step.rows, {}, {}}, d);
    const int together = key_tiles(step, d);
    ASSERT_LE(together, alone);
    spared += alone - together;
  }
  EXPECT_GT(spared, 10000);
}

MlaStep family(int members, int shared, int own) {
  MlaStep step;
  step.prefixes = {{0, members, 0, shared, -1}};
  for (int r = 0; r < members; ++r) step.rows.push_back({r, r, 1, shared + own - 1});
  step.row_prefixes.assign(size(members), 0);
  return step;
}

// 32 sequences of 16 heads that share 8k and have 256 tokens of their own.
TEST(MlaSharing, APrefixIsReadOnceForFourMembersAndNoShareHasTwoPieces) {
  MlaDivision d;
  d.heads = 16;
  d.shares = 132;
  const Division division = divide(family(32, 8192, 256), d);
  int tiles = 0;
  for (const auto& share : division.shares) {
    ASSERT_LE(share.size(), 1U);
    if (share.empty()) continue;
    tiles += share[0].last_tile - share[0].first_tile;
    EXPECT_EQ(share[0].last_tile - share[0].first_tile, 9);
  }
  EXPECT_EQ(tiles, 8 * 128 + 32 * 4);
}

// Long documents under a short prompt of the system: a unit ends with a document rather than have
// rows of two.
TEST(MlaSharing, UnitsEndWhereLittleIsReadAgain) {
  MlaStep step;
  step.prefixes = {{0, 9, 0, 256, -1}};
  const int members[] = {3, 5, 1};
  for (int document = 0; document < 3; ++document) {
    const auto first = static_cast<int>(step.rows.size());
    const int end = members[document] > 1 ? 4096 : 256;
    if (end > 256) step.prefixes.push_back({first, members[document], 256, end, 0});
    for (int i = 0; i < members[document]; ++i) {
      step.rows.push_back({first + i, first + i, 1, end + 10});
      step.row_prefixes.push_back(end > 256 ? document + 1 : 0);
    }
  }
  MlaDivision d;
  d.heads = 16;
  d.shares = 132;
  std::vector<int> rows;
  for (const MlaWork& work : list_work(step, d)) rows.push_back(work.view.count);
  EXPECT_EQ(rows, (std::vector<int>{3, 4, 2}));
  EXPECT_EQ(key_tiles(step, d), 3 * 64 + 9);
}

TEST(MlaSharing, PrefixesOfLessThanAKeyTileAreLeftToTheirRows) {
  MlaDivision d;
  d.heads = 16;
  d.shares = 132;
  const Division division = divide(family(3, 63, 2), d);
  EXPECT_TRUE(division.segments.empty());
  EXPECT_EQ(division.works.size(), 3U);
}

TEST(MlaSharing, RowsThatFillARowTileShareNothing) {
  MlaDivision d;
  d.heads = 64;
  d.shares = 132;
  EXPECT_TRUE(divide(family(8, 4096, 64), d).segments.empty());
  d.group = 2;
  EXPECT_FALSE(divide(family(8, 4096, 64), d).segments.empty());
}

}  // namespace
}  // namespace latentd::cuda

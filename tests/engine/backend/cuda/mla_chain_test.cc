// How the 512 + 64 attention divides steps whose rows share prefixes: every key of every query
// vector is met exactly once, in whatever tree, in a page that is the vector's own; and whoever
// merges a vector finds all of its pieces, in the order of their keys.
#include "engine/backend/cuda/mla_chain.h"

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
  int row = -1;  // of partial results; -1: the result itself
};

// What the kernel does for a piece, vector by vector.
std::map<int, std::vector<Part>> parts_by_vector(const MlaStep& step, const Division& division,
                                                 const MlaDivision& d) {
  std::map<int, std::vector<Part>> parts;
  for (const auto& share : division.shares) {
    for (const MlaPiece& piece : share) {
      for (int rank = 0; rank < d.group; ++rank) {
        const int first = (piece.unit * d.group + rank) * kMlaTileRows;
        const int count = std::min(kMlaTileRows, piece.view.count * d.heads - first);
        for (int i = 0; i < count; ++i) {
          const int token = (first + i) / d.heads;
          const int limit = std::min(piece.context, piece.view.start + token + 1);
          const int begin = piece.first_tile * kMlaTileKeys;
          const int end = std::min(piece.last_tile * kMlaTileKeys, limit);
          const int row = piece.complete() ? -1 : mla_partial_row(piece, d, piece.index, rank) + i;
          parts[piece.view.first_token * d.heads + first + i].push_back({begin, end, row});
          const int vector_row =
              piece.view.count == 1 || step.row_prefixes[size(piece.view.slot)] >= 0
                  ? piece.view.slot + token
                  : piece.view.slot;
          if (begin < end) {
            EXPECT_EQ(owner(step, piece.view.slot, begin), owner(step, vector_row, begin));
            EXPECT_EQ(owner(step, piece.view.slot, end - 1), owner(step, vector_row, end - 1));
          }
        }
      }
    }
  }
  for (auto& [vector, list] : parts) {
    std::stable_sort(list.begin(), list.end(),
                     [](const Part& a, const Part& b) { return a.first_key < b.first_key; });
  }
  return parts;
}

void expect_every_key_once(const MlaStep& step, const MlaDivision& d,
                           std::map<int, std::vector<Part>>& parts) {
  for (const RowView& row : step.rows) {
    for (int i = 0; i < row.count * d.heads; ++i) {
      const std::vector<Part>& list = parts[row.first_token * d.heads + i];
      const int seen = row.start + i / d.heads + 1;
      int next = 0;
      for (const Part& part : list) {
        if (part.first_key >= seen) continue;  // of a unit whose later tokens see more
        ASSERT_EQ(part.first_key, next) << "row of slot " << row.slot << ", vector " << i;
        next = part.last_key;
      }
      ASSERT_EQ(next, seen) << "row of slot " << row.slot << ", vector " << i;
    }
  }
}

// No two parts share a row, and all lie in the memory that is taken.
void expect_own_rows(const MlaStep& step, const MlaDivision& d,
                     const std::map<int, std::vector<Part>>& parts) {
  std::set<int> used;
  const std::int64_t rows =
      mla_partial_rows(d, static_cast<std::int64_t>(step.rows.size()), !step.prefixes.empty());
  for (const auto& [vector, list] : parts) {
    for (const Part& part : list) {
      if (part.row < 0) continue;
      ASSERT_TRUE(used.insert(part.row).second) << "row " << part.row << " is used twice";
      ASSERT_LT(part.row, rows);
    }
  }
}

// The chain of a vector names exactly its parts, in their order.
void expect_chains(const MlaStep& step, const Division& division, const MlaDivision& d,
                   std::map<int, std::vector<Part>>& parts) {
  std::set<int> chained;
  for (const MlaChain& chain : division.chains) {
    for (int head = 0; head < d.heads; ++head) {
      const int vector = chain.token * d.heads + head;
      chained.insert(vector);
      std::vector<int> expected;
      for (const Part& part : parts[vector]) expected.push_back(part.row);
      std::vector<int> actual;
      for (int link = 0; link < chain.count; ++link) {
        const MlaSource source = mla_source(chain.links[link], division.parts.data(), vector, d);
        for (int i = 0; i < source.count; ++i) {
          actual.push_back(mla_source_row(source.first, i, d));
        }
      }
      ASSERT_EQ(actual, expected) << "vector " << vector;
      ASSERT_LE(actual.size(), static_cast<std::size_t>(kMlaMostPieces));
    }
  }
  for (std::size_t r = 0; r < step.rows.size(); ++r) {
    const int prefix = step.row_prefixes[r];
    const bool shares = prefix >= 0 && step.prefixes[size(prefix)].last_key >= kMlaTileKeys;
    ASSERT_EQ(chained.contains(step.rows[r].first_token * d.heads),
              shares && step.rows[r].count > 0);
  }
}

MlaDivision random_division(std::mt19937& random) {
  MlaDivision d;
  d.heads = random() % 2 == 0 ? 16 : 1 + static_cast<int>(random() % 128);
  d.group = 1 + static_cast<int>(random() % 2);
  d.shares = (1 + static_cast<int>(random() % 132) + d.group - 1) / d.group;
  return d;
}

TEST(MlaChain, MeetsEveryKeyOfEveryVectorOnceInWhateverTree) {
  std::mt19937 random(kSeed);
  int shared = 0;
  for (int trial = 0; trial < 300; ++trial) {
    const MlaStep step = random_step(random);
    const MlaDivision d = random_division(random);
    SCOPED_TRACE("trial " + std::to_string(trial) + ", seed " + std::to_string(kSeed));
    const Division division = divide(step, d);
    auto parts = parts_by_vector(step, division, d);
    expect_every_key_once(step, d, parts);
    expect_own_rows(step, d, parts);
    expect_chains(step, division, d, parts);
    if (!step.rows.empty() && !division.places.empty()) {
      const RowView& last = step.rows.back();
      ASSERT_LT(*division.places.rbegin(), mla_places(d, last.first_token + last.count,
                                                      static_cast<std::int64_t>(step.rows.size())));
    }
    shared += static_cast<int>(division.chains.size());
    if (HasFailure()) return;
  }
  EXPECT_GT(shared, 1000);
}

// 32 sequences of 16 heads that share 8k and have 256 tokens of their own.
TEST(MlaChain, APrefixIsReadOnceForFourMembers) {
  MlaStep step;
  step.prefixes = {{0, 32, 0, 8192, -1}};
  for (int r = 0; r < 32; ++r) step.rows.push_back({r, r, 1, 8192 + 255});
  step.row_prefixes.assign(32, 0);
  MlaDivision d;
  d.heads = 16;
  d.shares = 132;
  const Division division = divide(step, d);
  int tiles = 0;
  int most = 0;
  for (const auto& share : division.shares) {
    int own = 0;
    for (const MlaPiece& piece : share) own += piece.last_tile - piece.first_tile;
    tiles += own;
    most = std::max(most, own);
  }
  EXPECT_EQ(tiles, 8 * 128 + 32 * 4);
  EXPECT_LE(most, tiles / 132 + 2);
}

TEST(MlaChain, PrefixesOfLessThanAKeyTileAreLeftToTheirRows) {
  MlaStep step;
  step.prefixes = {{0, 3, 0, 63, -1}};
  for (int r = 0; r < 3; ++r) step.rows.push_back({r, r, 1, 63 + r});
  step.row_prefixes.assign(3, 0);
  MlaDivision d;
  d.heads = 16;
  d.shares = 132;
  const Division division = divide(step, d);
  EXPECT_TRUE(division.chains.empty());
  for (const auto& share : division.shares) {
    for (const MlaPiece& piece : share) EXPECT_TRUE(piece.complete());
  }
}

}  // namespace
}  // namespace latentd::cuda

// How expanded attention divides a step: which keys of which rows are expanded together.
//
// Scratch holds the expanded keys and values of a bounded number of tokens. The rows of a step are
// packed into passes of at most that many keys; a row longer than that is cut into segments, one a
// pass, and what its queries have summed so far is carried from pass to pass.
//
// Contract: plain host code and plain data, pure functions, no device needed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/backend/expansion_policy.h"
#include "engine/backend/op_params.h"

namespace latentd::cuda {

// Queries of a tile, which is what one block computes for one head.
inline constexpr std::int32_t kExpandedQueries = 128;
// Keys of a segment are padded to whole blocks of zeros: kernels read whole blocks.
inline constexpr std::int32_t kExpandedKeyBlock = 128;
// Keys of a pass are padded further, so that products come in few shapes.
inline constexpr std::int32_t kExpandedKeyRound = 512;
// Segments of a pass: as many as fit into the parameters of a launch.
inline constexpr std::int32_t kMostSegments = 64;
// Scratch of expanded keys and values: every further pass costs a round of the carried sums...
inline constexpr std::size_t kExpandedBytes = std::size_t{256} << 20;
// ...so many heads get more than that rather than fewer keys than these.
inline constexpr std::int32_t kFewestPassKeys = 4096;
// What a tile carries from pass to pass, for one head and thread of 256: sums, maxima, weights.
inline constexpr std::int32_t kStateThreads = 256;

constexpr std::int32_t round_up(std::int32_t value, std::int32_t step) {
  return (value + step - 1) / step * step;
}

// Floats of state a tile and head: v sums and the two numbers of a softmax a query, twice the
// latter because two of them lie in a thread that shares the row with three others.
constexpr std::int32_t state_floats(std::int32_t v_dim) {
  return kExpandedQueries * v_dim + 4 * kStateThreads;
}

// Most keys of a pass.
constexpr std::int32_t pass_keys(std::int32_t num_heads, std::int32_t nope, std::int32_t v_dim) {
  const std::size_t key_bytes = static_cast<std::size_t>(num_heads) *
                                static_cast<std::size_t>(nope + v_dim) * dtype_size(DType::kBF16);
  const auto keys = static_cast<std::int32_t>(
      std::min<std::size_t>(kExpandedBytes / key_bytes, std::size_t{1} << 16));
  return std::max(keys / kExpandedKeyRound * kExpandedKeyRound, kFewestPassKeys);
}

// Keys of one row, expanded into consecutive rows of scratch.
struct ExpandedSegment {
  std::int32_t slot;
  std::int32_t first_token;  // of the step: the row's first query
  std::int32_t count;        // queries of the row
  std::int32_t start;        // position of the first query
  std::int32_t first_key;    // position of the segment's first key
  std::int32_t num_keys;     // a multiple of kExpandedKeyBlock unless the row ends here
  std::int32_t offset;       // row of scratch of the first key
  std::int32_t first_tile;   // tiles of queries of the segments before

  constexpr std::int32_t num_tiles() const {
    return (count + kExpandedQueries - 1) / kExpandedQueries;
  }
  constexpr std::int32_t end_key() const { return first_key + num_keys; }
};

struct ExpandedPass {
  std::int32_t num_segments = 0;
  std::int32_t num_keys = 0;  // rows of scratch, padding included
  std::int32_t num_tiles = 0;
  ExpandedSegment segments[kMostSegments];
};

// Where a step's next pass begins.
struct ExpandedCursor {
  std::size_t row = 0;
  std::int32_t key = 0;
};

// The next pass over `rows` with at most `most_keys` keys (a multiple of kExpandedKeyRound), or
// false when all is done. A row that fits into a pass is never cut; only the first segment of a
// pass continues a row, and only its last one is to be continued.
inline bool next_pass(std::span<const RowView> rows, std::int32_t most_keys, ExpandedCursor& cursor,
                      ExpandedPass& pass) {
  pass.num_segments = 0;
  pass.num_keys = 0;
  pass.num_tiles = 0;
  while (cursor.row < rows.size() && pass.num_segments < kMostSegments) {
    const RowView& row = rows[cursor.row];
    const std::int32_t left = row.start + row.count - cursor.key;
    const std::int32_t padded = round_up(left, kExpandedKeyBlock);
    if (row.count > 0) {
      if (padded > most_keys - pass.num_keys && pass.num_segments > 0) break;
      const std::int32_t keys = std::min(left, most_keys);
      pass.segments[pass.num_segments++] = {row.slot,      row.first_token, row.count,
                                            row.start,     cursor.key,      keys,
                                            pass.num_keys, pass.num_tiles};
      pass.num_keys += round_up(keys, kExpandedKeyBlock);
      pass.num_tiles += pass.segments[pass.num_segments - 1].num_tiles();
      if (keys < left) {
        cursor.key += keys;
        break;
      }
    }
    ++cursor.row;
    cursor.key = 0;
  }
  pass.num_keys = round_up(pass.num_keys, kExpandedKeyRound);
  return pass.num_segments > 0;
}

// Tiles whose sums go from this pass to another.
inline std::int32_t carried_tiles(const ExpandedPass& pass) {
  const ExpandedSegment& first = pass.segments[0];
  const ExpandedSegment& last = pass.segments[pass.num_segments - 1];
  const std::int32_t continued = first.first_key > 0 ? first.num_tiles() : 0;
  const bool unfinished = last.end_key() < last.start + last.count;
  return unfinished ? std::max(continued, last.num_tiles()) : continued;
}

// Scratch of a pass in bytes.
struct ExpandedScratch {
  std::size_t latents;  // [keys, latent + rope] bf16
  std::size_t kv;       // [keys, heads, nope + v] bf16
  std::size_t state;    // [carried tiles, heads, state_floats] fp32
};

inline ExpandedScratch expanded_scratch(const MlaGeometry& g, std::int32_t keys,
                                        std::int32_t carried) {
  const auto bytes = [](std::int64_t rows, std::int64_t width, std::size_t element) {
    return static_cast<std::size_t>(rows * width) * element;
  };
  const std::int64_t heads = g.num_heads;
  return {bytes(keys, g.latent_dim(), 2), bytes(keys, heads * (g.nope_dim + g.v_dim), 2),
          bytes(carried, heads * state_floats(g.v_dim), sizeof(float))};
}

// No pass of a step of at most `max_tokens` tokens in sequences of at most `max_positions` needs
// more.
inline ExpandedScratch most_expanded_scratch(const MlaGeometry& g, std::int32_t max_tokens,
                                             std::int32_t max_positions) {
  const std::int32_t keys = pass_keys(g.num_heads, g.nope_dim, g.v_dim);
  const bool cut = max_positions > keys;
  return expanded_scratch(g, keys,
                          cut ? round_up(max_tokens, kExpandedQueries) / kExpandedQueries : 0);
}

// From where on the expanded form is the faster one (bench_prefill_attention crossover): with much
// cached both forms are bound by arithmetic, and of few heads by what three launches cost.
constexpr ExpansionPolicy expansion_on_cuda(std::int32_t num_heads) {
  return {.least_tokens = 16, .most_tokens = 160 + 2048 / num_heads, .cached_per_token = 20};
}

// The order in which blocks take their work: the longest tiles, which come last in a causal row,
// first, but no more heads at a time than the L2 holds keys of.
inline constexpr std::int32_t kHeadGroup = 16;
struct ExpandedWork {
  std::int32_t tile;
  std::int32_t head;
};
constexpr ExpandedWork work_of_block(std::int32_t block, std::int32_t num_tiles,
                                     std::int32_t num_heads) {
  const std::int32_t first_head = block / (num_tiles * kHeadGroup) * kHeadGroup;
  // Not std::min: device code has no address of a constant to refer to.
  const std::int32_t left = num_heads - first_head;
  const std::int32_t heads = left < kHeadGroup ? left : kHeadGroup;
  const std::int32_t at = block - first_head * num_tiles;
  return {num_tiles - 1 - at / heads, first_head + at % heads};
}

}  // namespace latentd::cuda

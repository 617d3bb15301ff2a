// DfaPool: the byte automata of a schema's scalars (literals, numbers, patterns) in two flat
// arrays.
//
// Contract: built by one thread; const methods from any. Every state that is kept can reach an
// accepting one, so whoever follows edges never gets stuck.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace latentd {

struct DfaEdge {
  std::uint8_t first;
  std::uint8_t last;  // inclusive
  std::uint32_t target;
  friend bool operator==(const DfaEdge&, const DfaEdge&) = default;
};

// One automaton while it is made; its start is state 0. Edges of a state do not overlap.
struct DraftDfa {
  struct State {
    bool accept = false;
    std::vector<DfaEdge> edges;
  };
  std::vector<State> states;

  std::uint32_t add_state();
  // Adds an edge; joins it to the last one when they touch and lead to the same state.
  void add_edge(std::uint32_t from, std::uint8_t first, std::uint8_t last, std::uint32_t target);
};

class DfaPool final {
 public:
  static constexpr std::uint32_t kNone = 0xFFFFFFFF;
  static constexpr std::size_t kMaxStates = std::size_t{1} << 17;
  static constexpr std::size_t kMaxEdges = std::size_t{1} << 18;

  // The start state, or kNone when nothing is accepted. kInvalidArgument when the pool is full.
  Result<std::uint32_t> add(const DraftDfa& draft);

  std::uint32_t next(std::uint32_t state, std::uint8_t byte) const {
    const State& s = states_[state];
    for (std::uint32_t i = s.first_edge; i < s.end_edge; ++i) {
      if (byte >= edges_[i].first && byte <= edges_[i].last) return edges_[i].target;
    }
    return kNone;
  }
  bool accepts(std::uint32_t state) const { return states_[state].accept; }
  std::span<const DfaEdge> edges(std::uint32_t state) const {
    const State& s = states_[state];
    return std::span(edges_).subspan(s.first_edge, s.end_edge - s.first_edge);
  }
  bool has_edges(std::uint32_t state) const { return !edges(state).empty(); }

 private:
  struct State {
    std::uint32_t first_edge;
    std::uint32_t end_edge;
    bool accept;
  };
  std::vector<State> states_;
  std::vector<DfaEdge> edges_;
};

// Exactly these texts.
DraftDfa literal_dfa(std::vector<std::string> texts);

}  // namespace latentd

// Which tokens a configuration can take: a walk over the trie with the machine.
//
// What a frame allows by itself does not depend on the stack below it, except for tokens that end
// the frame's value and go on. So a frame is walked once, over an unknown stack: `tokens` are those
// that it takes by itself, `escapes` the trie's nodes where its value may have ended and where the
// frame below takes over. (The idea is XGrammar's, arXiv:2411.15100: context-independent tokens are
// classified once, the few others at run time.)
//
// Contract: one thread; leaves the machine's arena as it was.
#pragma once

#include <cstdint>
#include <vector>

#include "server/text/schema/machine.h"
#include "server/text/schema/vocabulary_trie.h"

namespace latentd {

class MaskWalk final {
 public:
  MaskWalk(SchemaMachine& machine, const VocabularyTrie& trie) : machine_(machine), trie_(trie) {}

  struct Found {
    std::vector<TokenId> tokens;
    std::vector<std::uint32_t> escapes;  // empty unless the bottom is unknown
  };

  // What a scalar in `state` of `dfa` takes by itself; over the whole trie.
  void walk_scalar(const DfaPool& dfa, std::uint32_t state, Found& found);
  // Appends what begins in `configs` after the bytes of `node`.
  void walk(const std::vector<SchemaConfig>& configs, std::uint32_t node, Found& found);

  // Steps of configurations so far: what the walks cost.
  std::size_t work() const { return work_; }

 private:
  void look(std::size_t first, std::uint32_t node, Found& found);

  struct Level {
    std::size_t first;  // its configurations are configs_[first ..)
    std::size_t arena;
  };

  SchemaMachine& machine_;
  const VocabularyTrie& trie_;
  std::size_t work_ = 0;
  std::vector<SchemaConfig> configs_;
  std::vector<SchemaConfig> next_;
  std::vector<Level> levels_;
};

}  // namespace latentd

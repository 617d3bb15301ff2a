#include "server/text/schema/mask_walk.h"

namespace latentd {

void MaskWalk::look(std::size_t first, std::uint32_t node, Found& found) {
  if (trie_.end(node) == node + 1) return;
  for (std::size_t i = first; i < configs_.size(); ++i) {
    const SchemaConfig& config = configs_[i];
    const bool ended = config.frame.node == SchemaMachine::kUnknown;
    const bool may_end = machine_.may_end(config.frame) &&
                         machine_.link(config.stack).frame.node == SchemaMachine::kUnknown;
    if (!ended && !may_end) continue;
    found.escapes.push_back(node);
    return;
  }
}

// One state a level instead of a set of configurations: several times faster, and patterns like .*
// reach most of the trie.
void MaskWalk::walk_scalar(const DfaPool& dfa, std::uint32_t state, Found& found) {
  std::vector<std::uint32_t> states{state};
  if (dfa.accepts(state)) found.escapes.push_back(0);
  for (std::uint32_t node = 1; node < trie_.num_nodes();) {
    ++work_;
    const std::uint32_t depth = trie_.depth(node);
    const std::uint32_t next = dfa.next(states[depth - 1], trie_.byte(node));
    if (next == DfaPool::kNone) {
      node = trie_.end(node);
      continue;
    }
    if (states.size() <= depth) states.resize(depth + 1);
    states[depth] = next;
    const std::span<const TokenId> tokens = trie_.tokens(node);
    found.tokens.insert(found.tokens.end(), tokens.begin(), tokens.end());
    if (dfa.accepts(next) && trie_.end(node) > node + 1) found.escapes.push_back(node);
    ++node;
  }
}

void MaskWalk::walk(const std::vector<SchemaConfig>& configs, std::uint32_t node, Found& found) {
  const std::uint32_t base = trie_.depth(node);
  const std::size_t arena = machine_.arena();
  configs_ = configs;
  levels_.assign(1, {0, arena});
  look(0, node, found);
  for (std::uint32_t at = node + 1; at < trie_.end(node);) {
    // Back to the level of the parent.
    const std::size_t above = trie_.depth(at) - base - 1;
    if (levels_.size() > above + 1) {
      configs_.resize(levels_[above + 1].first);
      machine_.truncate(levels_[above + 1].arena);
      levels_.resize(above + 1);
    }
    next_.clear();
    const std::size_t before = machine_.arena();
    work_ += configs_.size() - levels_[above].first;
    for (std::size_t i = levels_[above].first; i < configs_.size(); ++i) {
      machine_.step(configs_[i], trie_.byte(at), next_);
    }
    if (next_.empty()) {
      machine_.truncate(before);
      at = trie_.end(at);
      continue;
    }
    const std::span<const TokenId> tokens = trie_.tokens(at);
    found.tokens.insert(found.tokens.end(), tokens.begin(), tokens.end());
    levels_.push_back({configs_.size(), before});
    configs_.insert(configs_.end(), next_.begin(), next_.end());
    look(levels_.back().first, at, found);
    ++at;
  }
  machine_.truncate(arena);
}

}  // namespace latentd

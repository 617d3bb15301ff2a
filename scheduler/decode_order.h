// DecodeOrder: the running sequences of one token a step, so ordered that those whose page tables
// begin alike are neighbours: a walk over the prefix tree. For each is known how many pages it
// shares with the one before.
//
// Two page tables agree on their first pages and nowhere after, because a shared page is a node of
// the prefix tree and has one page before it. Joining looks at the others only when the first page
// has other readers; leaving moves what is behind. Sequences that share nothing keep the order in
// which they came.
//
// Contract: as the scheduler's. Does not own the sequences. Whoever's published pages were
// exchanged is moved (`move`). Allocates nothing after `reserve`.
#pragma once

#include <cstddef>
#include <vector>

#include "kvcache/block_manager.h"
#include "scheduler/sequence.h"

namespace latentd {

class DecodeOrder final {
 public:
  explicit DecodeOrder(const BlockManager& blocks) : blocks_(blocks) {}

  void reserve(std::size_t count);
  std::size_t size() const { return sequences_.size(); }
  Sequence& operator[](std::size_t i) const { return *sequences_[i]; }
  const std::vector<Sequence*>& sequences() const { return sequences_; }
  // Leading pages that sequences i - 1 and i have in common; 0 of the first.
  int common(std::size_t i) const { return common_[i]; }

  // REQUIRES: not in it.
  void insert(Sequence& sequence);
  // False when it is not in it.
  bool erase(const Sequence& sequence);
  // The sequence's pages are others than they were. Nothing when it is not in it.
  void move(Sequence& sequence);

  void check_invariants() const;  // O(n^2)

 private:
  const BlockManager& blocks_;
  std::vector<Sequence*> sequences_;
  std::vector<int> common_;
};

}  // namespace latentd

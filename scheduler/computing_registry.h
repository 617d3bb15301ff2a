// ComputingRegistry: which prefixes are being computed by running sequences, and who waits for
// them.
//
// The unit is what a prefix hit is a multiple of: a page, or more when prefill is aligned. A
// sequence that is admitted (the leader) announces every whole unit that it will compute and
// publish; each is settled when it was published or will not be. Whoever waits for one names the
// last unit that both have in common and is woken when that one is settled.
//
// Prefixes are compared by their hash alone: a false match makes a request wait for nothing and is
// found when it wakes, because the prefix tree compares tokens.
//
// Contract: private to the scheduler; allocates nothing after construction; O(1) a unit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "scheduler/sequence.h"

namespace latentd {

class ComputingRegistry final {
 public:
  // `capacity` units announced at a time: each has pages of its own, so that no more than the cache
  // has can be.
  ComputingRegistry(int capacity, int unit_pages);

  // The leader will compute and publish units [first, end). REQUIRES: leader.hashes cover them.
  void announce(Sequence& leader, int first, int end);

  // Units of the leader below `end` are published, or will never be: their waiters go to `woken`.
  void settle(Sequence& leader, int end, SequenceList& woken);

  // Who computes the unit whose last page has this hash; null when nobody does.
  Sequence* leader_of(std::uint64_t hash) const;

  // The waiters of a unit that `leader` announced.
  SequenceList& waiters(const Sequence& leader, int unit);

  // The hash that stands for unit `unit` of a sequence.
  std::uint64_t unit_hash(const Sequence& sequence, int unit) const {
    return sequence.hashes[static_cast<std::size_t>((unit + 1) * unit_pages_ - 1)];
  }

  int size() const { return static_cast<int>(nodes_.size() - free_.size()); }

 private:
  static constexpr std::int32_t kNone = -1;
  struct Node {
    std::uint64_t hash = 0;
    Sequence* leader = nullptr;
    std::int32_t next = kNone;  // in the bucket
    SequenceList waiters;
  };

  std::int32_t& bucket(std::uint64_t hash) { return buckets_[hash & (buckets_.size() - 1)]; }
  Node& node(std::int32_t index) { return nodes_[static_cast<std::size_t>(index)]; }
  const Node& node(std::int32_t index) const { return nodes_[static_cast<std::size_t>(index)]; }
  // The link that holds the index of the leader's node.
  std::int32_t& link_to(const Sequence& leader, std::uint64_t hash);

  const int unit_pages_;
  std::vector<Node> nodes_;
  std::vector<std::int32_t> free_;
  std::vector<std::int32_t> buckets_;
};

}  // namespace latentd

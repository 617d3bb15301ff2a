#include "scheduler/computing_registry.h"

#include <bit>

#include "base/check.h"

namespace latentd {

ComputingRegistry::ComputingRegistry(int capacity, int unit_pages)
    : unit_pages_(unit_pages), nodes_(static_cast<std::size_t>(capacity)) {
  free_.reserve(nodes_.size());
  for (int index = capacity - 1; index >= 0; --index) free_.push_back(index);
  buckets_.assign(std::bit_ceil(2 * nodes_.size()), kNone);
}

void ComputingRegistry::announce(Sequence& leader, int first, int end) {
  LATENTD_CHECK(leader.first_unit == leader.end_unit, "the leader's last units are not settled");
  leader.first_unit = first;
  leader.end_unit = end;
  for (int unit = first; unit < end; ++unit) {
    LATENTD_CHECK(!free_.empty(), "more units are announced than the cache has pages");
    const std::int32_t index = free_.back();
    free_.pop_back();
    Node& added = node(index);
    added.hash = unit_hash(leader, unit);
    added.leader = &leader;
    added.next = bucket(added.hash);
    bucket(added.hash) = index;
  }
}

std::int32_t& ComputingRegistry::link_to(const Sequence& leader, std::uint64_t hash) {
  std::int32_t* link = &bucket(hash);
  while (*link != kNone && (node(*link).hash != hash || node(*link).leader != &leader)) {
    link = &node(*link).next;
  }
  LATENTD_CHECK(*link != kNone, "the unit is not announced");
  return *link;
}

void ComputingRegistry::settle(Sequence& leader, int end, SequenceList& woken) {
  for (; leader.first_unit < leader.end_unit && leader.first_unit < end; ++leader.first_unit) {
    std::int32_t& link = link_to(leader, unit_hash(leader, leader.first_unit));
    const std::int32_t index = link;
    Node& settled = node(index);
    woken.splice_back(settled.waiters);
    link = settled.next;
    settled.leader = nullptr;
    free_.push_back(index);
  }
}

Sequence* ComputingRegistry::leader_of(std::uint64_t hash) const {
  std::int32_t index = buckets_[hash & (buckets_.size() - 1)];
  while (index != kNone && node(index).hash != hash) index = node(index).next;
  return index == kNone ? nullptr : node(index).leader;
}

SequenceList& ComputingRegistry::waiters(const Sequence& leader, int unit) {
  return node(link_to(leader, unit_hash(leader, unit))).waiters;
}

}  // namespace latentd

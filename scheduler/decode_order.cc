#include "scheduler/decode_order.h"

#include <algorithm>

#include "base/check.h"

namespace latentd {
namespace {

// Leading pages that are the same, `known` of which are.
int common_pages(const Sequence& a, const Sequence& b, int known) {
  const auto left = a.pages->pages();
  const auto right = b.pages->pages();
  const auto end = std::min(left.size(), right.size());
  auto i = static_cast<std::size_t>(known);
  while (i < end && left[i] == right[i]) ++i;
  return static_cast<int>(i);
}

}  // namespace

void DecodeOrder::reserve(std::size_t count) {
  sequences_.reserve(count);
  common_.reserve(count);
}

// Behind the last of those with which it shares most.
void DecodeOrder::insert(Sequence& sequence) {
  std::size_t place = sequences_.size();
  int most = 0;
  if (sequence.pages->published() > 0 && blocks_.is_shared(sequence.pages->pages().front())) {
    int with = 0;  // shared with sequence i
    for (std::size_t i = 0; i < sequences_.size(); ++i) {
      // What i shares with the one before tells, unless that is as much as the one before shares
      // with the new one.
      if (common_[i] < with) with = common_[i];
      if (common_[i] == with) with = common_pages(sequence, *sequences_[i], with);
      if (with < most || with == 0) continue;
      most = with;
      place = i + 1;
    }
  }
  const auto at = static_cast<std::ptrdiff_t>(place);
  sequences_.insert(sequences_.begin() + at, &sequence);
  common_.insert(common_.begin() + at, most);
}

bool DecodeOrder::erase(const Sequence& sequence) {
  const auto found = std::ranges::find(sequences_, &sequence);
  if (found == sequences_.end()) return false;
  const auto at = found - sequences_.begin();
  const auto i = static_cast<std::size_t>(at);
  if (i + 1 < sequences_.size()) common_[i + 1] = std::min(common_[i], common_[i + 1]);
  sequences_.erase(found);
  common_.erase(common_.begin() + at);
  return true;
}

void DecodeOrder::move(Sequence& sequence) {
  if (erase(sequence)) insert(sequence);
}

void DecodeOrder::check_invariants() const {
  for (std::size_t i = 0; i < sequences_.size(); ++i) {
    int shared = i == 0 ? 0 : common_[i];
    LATENTD_CHECK(i > 0 || common_[0] == 0, "the first shares {} pages", common_[0]);
    for (std::size_t j = i; j-- > 0; shared = std::min(shared, common_[j])) {
      const int actual = common_pages(*sequences_[i], *sequences_[j], 0);
      LATENTD_CHECK(actual == shared, "sequences {} and {} share {} pages, not {}", j, i, actual,
                    shared);
    }
  }
}

}  // namespace latentd

#include "scheduler/shared_prefixes.h"

#include <algorithm>

namespace latentd {
namespace {

struct Finder {
  std::span<const int> common;
  const PrefixPolicy& policy;
  BatchPlan& plan;
  std::int64_t spared = 0;

  // Prefixes of rows [first, last), which lie in `parent`, itself in depth - 1 others, up to
  // position `begin`.
  void find(std::size_t first, std::size_t last, std::int32_t parent, std::int32_t begin,
            int depth) {
    while (first < last) {
      std::size_t past = first + 1;
      std::int32_t end = past < last ? common[past] : 0;
      while (past < last && common[past] - begin >= std::max(policy.min_tokens, 1)) {
        end = std::min(end, common[past++]);
      }
      const auto rows = static_cast<std::int32_t>(past - first);
      if (rows >= std::max(policy.min_rows, 2)) {
        const auto self = static_cast<std::int32_t>(plan.prefixes.size());
        plan.prefixes.push_back({static_cast<std::int32_t>(first), rows, begin, end, parent});
        for (std::size_t i = first; i < past; ++i) plan.rows[i].prefix = self;
        spared += std::int64_t{rows - 1} * (end - begin);
        if (depth + 1 < policy.max_depth) find(first, past, self, end, depth + 1);
      }
      first = past;
    }
  }
};

}  // namespace

void find_prefixes(std::span<const int> common, const PrefixPolicy& policy, BatchPlan& plan) {
  if (policy.max_depth == 0) return;
  Finder finder{common, policy, plan};
  finder.find(0, common.size(), -1, 0, 0);
  if (finder.spared >= policy.min_spared) return;
  plan.prefixes.clear();
  for (PlanRow& row : plan.rows) row.prefix = -1;
}

}  // namespace latentd

#include "server/recent_requests.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace latentd {

void RecentRequests::add(RequestRecord record) {
  std::lock_guard lock(mutex_);
  if (records_.size() == kCapacity) records_.pop_front();
  records_.push_back(std::move(record));
}

std::vector<RequestRecord> RecentRequests::newest_first(std::string_view tenant) const {
  std::vector<RequestRecord> found;
  std::lock_guard lock(mutex_);
  std::copy_if(records_.rbegin(), records_.rend(), std::back_inserter(found),
               [tenant](const auto& record) { return tenant.empty() || record.tenant == tenant; });
  return found;
}

}  // namespace latentd

// RecentRequests: what the last requests were and what they cost, for whoever watches the server.
//
// Holds numbers and the ids that clients chose, never a text of a request or an answer.
//
// Contract: any thread; none blocks for long.
#pragma once

#include <cstddef>
#include <deque>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "server/generation.h"

namespace latentd {

struct RequestRecord {
  std::string request_id;
  std::string call;               // "/v1/chat/completions", "Generate"
  std::string status;             // "200", "499", "OK", "CANCELLED"
  double ended_unix = 0.0;        // seconds
  double duration_seconds = 0.0;  // from arrival to the last byte handed over
  std::string tenant;             // of the key; empty: the operator's
  Usage usage;                    // as far as it came
};

class RecentRequests final {
 public:
  static constexpr std::size_t kCapacity = 50;

  void add(RequestRecord record);
  // Those of a tenant; the empty name is the operator, who sees all.
  std::vector<RequestRecord> newest_first(std::string_view tenant) const;

 private:
  mutable std::mutex mutex_;
  std::deque<RequestRecord> records_;  // guarded by mutex_; the newest is the last
};

}  // namespace latentd

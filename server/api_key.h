// ApiKey: what the holder of one key may, and how much of it is used. Caller: who makes a request.
//
// Contract: any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "base/result.h"
#include "server/rate_bucket.h"

namespace latentd {

// 0: no limit.
struct KeyPolicy {
  std::string tenant;           // whose prefix cache and request ids it shares
  int requests_per_minute = 0;  // of any kind
  int tokens_per_minute = 0;    // of prompts and outputs; counted when they are known
  int max_concurrent = 0;       // requests in the house, whatever their choices
  int priority = 0;             // of its requests; lower runs first

  friend bool operator==(const KeyPolicy&, const KeyPolicy&) = default;
};

class KeyUse;

class ApiKey final : public std::enable_shared_from_this<ApiKey> {
 public:
  explicit ApiKey(KeyPolicy policy);

  const KeyPolicy& policy() const { return policy_; }

  // A request begins. kResourceExhausted: a limit of this key is reached; the message says which.
  Result<KeyUse> begin(TimePoint now);

  // Tokens of a prompt that starts or of an output that has ended.
  void charge_tokens(int tokens, TimePoint now);

  // Until `begin` can succeed, as far as rates go.
  Duration wait(TimePoint now);

  // A client may make its requests less urgent than its key, never more.
  int priority_of(int asked) const;

 private:
  friend class KeyUse;
  void end();

  const KeyPolicy policy_;
  std::mutex mutex_;  // guards all below
  RateBucket requests_;
  RateBucket tokens_;
  int concurrent_ = 0;
};

// Null: no keys are asked for. Shared, because a key may be taken away while its requests run.
using Caller = std::shared_ptr<ApiKey>;

// Empty for keys of no tenant and where none is asked for.
inline std::string tenant_of(const Caller& caller) {
  return caller == nullptr ? "" : caller->policy().tenant;
}

// Move-only: a request of a key, until its destruction.
class KeyUse final {
 public:
  KeyUse() = default;
  KeyUse(KeyUse&& other) noexcept = default;
  KeyUse& operator=(KeyUse&& other) noexcept {
    std::swap(key_, other.key_);
    return *this;
  }
  ~KeyUse() {
    if (key_ != nullptr) key_->end();
  }

  const Caller& caller() const { return key_; }

 private:
  friend class ApiKey;
  explicit KeyUse(Caller key) : key_(std::move(key)) {}

  Caller key_;
};

}  // namespace latentd

#include "server/api_key.h"

#include <spdlog/fmt/fmt.h>

#include <limits>

namespace latentd {

ApiKey::ApiKey(KeyPolicy policy)
    : policy_(std::move(policy)),
      requests_(policy_.requests_per_minute),
      tokens_(policy_.tokens_per_minute) {}

Result<KeyUse> ApiKey::begin(TimePoint now) {
  std::lock_guard lock(mutex_);
  if (policy_.max_concurrent > 0 && concurrent_ >= policy_.max_concurrent) {
    return Status(StatusCode::kResourceExhausted,
                  fmt::format("this key may have {} requests at once", policy_.max_concurrent));
  }
  if (requests_.wait_for(1.0, now) > Duration::zero()) {
    return Status(
        StatusCode::kResourceExhausted,
        fmt::format("this key may make {} requests a minute", policy_.requests_per_minute));
  }
  if (tokens_.wait_for(1.0, now) > Duration::zero()) {
    return Status(StatusCode::kResourceExhausted,
                  fmt::format("this key may use {} tokens a minute", policy_.tokens_per_minute));
  }
  requests_.charge(1.0, now);
  ++concurrent_;
  return KeyUse(shared_from_this());
}

void ApiKey::end() {
  std::lock_guard lock(mutex_);
  --concurrent_;
}

void ApiKey::charge_tokens(int tokens, TimePoint now) {
  // No request is paid back for more than a day.
  constexpr double kMinutesOfADay = 1440.0;
  std::lock_guard lock(mutex_);
  tokens_.charge(std::min<double>(tokens, kMinutesOfADay * policy_.tokens_per_minute), now);
}

Duration ApiKey::wait(TimePoint now) {
  std::lock_guard lock(mutex_);
  return std::max(requests_.wait_for(1.0, now), tokens_.wait_for(1.0, now));
}

int ApiKey::priority_of(int asked) const {
  const std::int64_t sum = std::int64_t{policy_.priority} + std::max(asked, 0);
  return static_cast<int>(std::min<std::int64_t>(sum, std::numeric_limits<int>::max()));
}

}  // namespace latentd

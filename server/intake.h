// Intake: how many requests are in the house. A slot is taken before any work is done for a request
// and given back when its engine requests have finished. With it goes the use of the caller's key.
//
// Contract: any thread. Intake outlives its slots.
#pragma once

#include <atomic>
#include <utility>

#include "server/api_key.h"

namespace latentd {

class Intake;

// Move-only: some places in the house, given back on destruction.
class IntakeSlot final {
 public:
  IntakeSlot() = default;
  IntakeSlot(IntakeSlot&& other) noexcept
      : intake_(std::exchange(other.intake_, nullptr)),
        places_(std::exchange(other.places_, 0)),
        use_(std::move(other.use_)) {}
  IntakeSlot& operator=(IntakeSlot&& other) noexcept {
    std::swap(intake_, other.intake_);
    std::swap(places_, other.places_);
    use_ = std::move(other.use_);
    return *this;
  }
  ~IntakeSlot();

  explicit operator bool() const { return intake_ != nullptr; }

  // Takes more places, for the other choices of a request. False when there are not that many.
  bool grow(int more);

  void hold(KeyUse use) { use_ = std::move(use); }
  // Whose request it is; null when no keys are asked for.
  const Caller& caller() const { return use_.caller(); }

 private:
  friend class Intake;
  IntakeSlot(Intake* intake, int places) : intake_(intake), places_(places) {}

  Intake* intake_ = nullptr;
  int places_ = 0;
  KeyUse use_;
};

class Intake final {
 public:
  explicit Intake(int capacity) : capacity_(capacity) {}

  // Empty when the house is full.
  IntakeSlot try_take() { return take(1) ? IntakeSlot(this, 1) : IntakeSlot(); }

  int taken() const { return taken_.load(std::memory_order_acquire); }
  int capacity() const { return capacity_; }

 private:
  friend class IntakeSlot;

  bool take(int places) {
    int taken = taken_.load(std::memory_order_relaxed);
    do {
      if (taken + places > capacity_) return false;
    } while (!taken_.compare_exchange_weak(taken, taken + places, std::memory_order_acq_rel));
    return true;
  }
  void give_back(int places) { taken_.fetch_sub(places, std::memory_order_acq_rel); }

  const int capacity_;
  std::atomic<int> taken_{0};
};

inline IntakeSlot::~IntakeSlot() {
  if (intake_ != nullptr) intake_->give_back(places_);
}

inline bool IntakeSlot::grow(int more) {
  if (intake_ == nullptr || !intake_->take(more)) return false;
  places_ += more;
  return true;
}

}  // namespace latentd

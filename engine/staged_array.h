// StagedArray<T>: a fixed-capacity array with a host side, which the engine thread fills or reads,
// and a device side, which operations use. Copies between them are ordered with the operations.
//
// Contract: owns both sides; allocated once. T is trivially copyable.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include "base/check.h"
#include "base/result.h"
#include "engine/backend/backend.h"

namespace latentd {

template <typename T>
class StagedArray {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  StagedArray() = default;

  static Result<StagedArray> create(Backend& backend, std::size_t capacity,
                                    std::string_view purpose) {
    const std::size_t bytes = std::max<std::size_t>(capacity, 1) * sizeof(T);
    StagedArray array;
    array.capacity_ = capacity;
    LATENTD_ASSIGN_OR_RETURN(array.host_, backend.allocate(MemoryKind::kStaging, bytes, purpose));
    LATENTD_ASSIGN_OR_RETURN(array.device_, backend.allocate(MemoryKind::kDevice, bytes, purpose));
    return array;
  }

  std::size_t capacity() const { return capacity_; }
  std::size_t device_bytes() const { return device_ == nullptr ? 0 : device_->size(); }
  T* device() const { return static_cast<T*>(device_->data()); }
  std::span<T> host() const { return {static_cast<T*>(host_->data()), capacity_}; }

  // Host side: refilled from the front for each step.
  void clear() { size_ = 0; }
  std::size_t size() const { return size_; }
  void push_back(const T& value) {
    LATENTD_CHECK(size_ < capacity_, "staged array of {} is full", capacity_);
    host()[size_++] = value;
  }
  // The next `count` elements, to be filled by the caller.
  std::span<T> extend(std::size_t count) {
    LATENTD_CHECK(size_ + count <= capacity_, "staged array of {} has {}, {} more do not fit",
                  capacity_, size_, count);
    const std::span<T> added = host().subspan(size_, count);
    size_ += count;
    return added;
  }

  // What was filled goes to the device, beside what it computes: see Backend::stage_in.
  void stage_in(Backend& backend) const {
    if (size_ > 0) backend.stage_in(device(), host_->data(), size_ * sizeof(T));
  }
  // The first `count` elements come back to the host.
  void stage_out(Backend& backend, std::size_t count) const {
    if (count > 0) backend.stage_out(host_->data(), device(), count * sizeof(T));
  }

 private:
  std::size_t capacity_ = 0;
  std::size_t size_ = 0;
  std::unique_ptr<Buffer> host_;
  std::unique_ptr<Buffer> device_;
};

}  // namespace latentd

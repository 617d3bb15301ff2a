// Ids. A handle is a type of its own, so that a page never lands where a slot is meant.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace latentd {

template <typename Tag, typename Rep>
class StrongId {
 public:
  using rep = Rep;

  constexpr StrongId() = default;
  constexpr explicit StrongId(Rep value) : value_(value) {}
  constexpr Rep value() const { return value_; }
  // The id as an index into an array of all of its kind.
  constexpr std::size_t index() const { return static_cast<std::size_t>(value_); }

  friend constexpr auto operator<=>(const StrongId&, const StrongId&) = default;

 private:
  Rep value_{};
};

// A page of the latent cache: 0 .. num_pages - 1. Trivially copyable as int32 into device tables.
using PageId = StrongId<struct PageIdTag, std::int32_t>;
// A row of the runner's per-sequence state: 0 .. max_num_seqs - 1.
using SlotId = StrongId<struct SlotIdTag, std::int32_t>;
// A request for the life of the process; given out by the server, never reused.
using RequestId = StrongId<struct RequestIdTag, std::uint64_t>;
// An index into the vocabulary: data that the model computes with, so a plain integer.
using TokenId = std::int32_t;

}  // namespace latentd

template <typename Tag, typename Rep>
struct std::hash<latentd::StrongId<Tag, Rep>> {
  std::size_t operator()(latentd::StrongId<Tag, Rep> id) const noexcept {
    return std::hash<Rep>{}(id.value());
  }
};

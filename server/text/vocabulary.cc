#include "server/text/vocabulary.h"

#include <spdlog/fmt/fmt.h>

#include <bit>
#include <functional>

#include "server/text/byte_alphabet.h"

namespace latentd {

void Vocabulary::reserve(std::size_t tokens, std::size_t bytes) {
  entries_.reserve(tokens);
  spellings_.reserve(bytes);
  bytes_.reserve(bytes);
  rehash(std::bit_ceil(tokens * 2 + 16));
}

Status Vocabulary::add(std::string_view spelling, std::int64_t id) {
  if (id < 0 || id > kMaxId) {
    return {StatusCode::kInvalidArgument, fmt::format("id {} is not in 0 .. {}", id, kMaxId)};
  }
  if ((count_ + 1) * 2 > slots_.size()) rehash(std::bit_ceil(count_ * 4 + 16));
  const std::size_t slot = slot_of(spelling);
  if (slots_[slot] != 0) {
    return {StatusCode::kInvalidArgument, fmt::format("the token \"{}\" is there twice", spelling)};
  }
  const auto index = static_cast<std::size_t>(id);
  if (index >= entries_.size()) entries_.resize(index + 1);
  Entry& entry = entries_[index];
  if (entry.spelling.size != 0) {
    return {StatusCode::kInvalidArgument, fmt::format("id {} is given twice", id)};
  }
  const auto append = [](std::string& to, std::string_view text) {
    const Slice slice{static_cast<std::uint32_t>(to.size()),
                      static_cast<std::uint32_t>(text.size())};
    to.append(text);
    return slice;
  };
  entry.spelling = append(spellings_, spelling);
  const auto decoded = bytes_of_spelling(spelling);
  entry.bytes = append(bytes_, decoded ? std::string_view(*decoded) : spelling);
  slots_[slot] = static_cast<std::uint32_t>(id + 1);
  ++count_;
  return ok_status();
}

std::optional<TokenId> Vocabulary::find(std::string_view text) const {
  if (slots_.empty()) return std::nullopt;
  const std::uint32_t found = slots_[slot_of(text)];
  if (found == 0) return std::nullopt;
  return static_cast<TokenId>(found - 1);
}

// The slot that holds `text`, or the free one where it would go.
std::size_t Vocabulary::slot_of(std::string_view text) const {
  const std::size_t mask = slots_.size() - 1;
  std::size_t slot = std::hash<std::string_view>{}(text)&mask;
  while (slots_[slot] != 0 && spelling(static_cast<TokenId>(slots_[slot] - 1)) != text) {
    slot = (slot + 1) & mask;
  }
  return slot;
}

void Vocabulary::rehash(std::size_t num_slots) {
  std::vector<std::uint32_t> old(num_slots, 0);
  old.swap(slots_);
  for (const std::uint32_t id : old) {
    if (id != 0) slots_[slot_of(spelling(static_cast<TokenId>(id - 1)))] = id;
  }
}

}  // namespace latentd

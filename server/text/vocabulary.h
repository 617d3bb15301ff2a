// Vocabulary: ids, their spellings in the file and the bytes that they stand for.
//
// Contract: filled once, then immutable and thread-safe; views live as long as it does.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"

namespace latentd {

class Vocabulary final {
 public:
  static constexpr TokenId kMaxId = (1 << 22) - 1;

  // Makes room for `tokens` of `bytes` in all.
  void reserve(std::size_t tokens, std::size_t bytes);

  // kInvalidArgument: an id out of 0 .. kMaxId, an id or a spelling twice.
  // REQUIRES: `spelling` is valid UTF-8.
  Status add(std::string_view spelling, std::int64_t id);

  std::optional<TokenId> find(std::string_view spelling) const;
  std::string_view spelling(TokenId id) const { return view(id, &Entry::spelling, spellings_); }
  std::string_view bytes(TokenId id) const { return view(id, &Entry::bytes, bytes_); }

  std::size_t size() const { return count_; }
  int end() const { return static_cast<int>(entries_.size()); }  // largest id + 1

 private:
  struct Slice {
    std::uint32_t begin = 0;
    std::uint32_t size = 0;
  };
  struct Entry {
    Slice spelling;  // size 0: no such id
    Slice bytes;
  };

  std::string_view view(TokenId id, Slice Entry::*part, const std::string& of) const {
    if (id < 0 || id >= end()) return {};
    const Slice slice = entries_[static_cast<std::size_t>(id)].*part;
    return std::string_view(of).substr(slice.begin, slice.size);
  }
  std::size_t slot_of(std::string_view spelling) const;
  void rehash(std::size_t num_slots);

  std::vector<Entry> entries_;        // by id
  std::vector<std::uint32_t> slots_;  // id + 1 by the spelling's hash, open addressing; 0: free
  std::string spellings_;
  std::string bytes_;
  std::size_t count_ = 0;
};

}  // namespace latentd

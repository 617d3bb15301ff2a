// PrefixChanges: what a prefix tree gained and lost, in order, as plain values: for routers that
// send a prompt to where most of it is cached.
//
// Applied to an empty set of hashes from the first change on, they give exactly the pages of the
// tree.
//
// Contract: a value. A parent is stored before its children and removed after them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/ids.h"

namespace latentd {

struct PrefixChange {
  enum class Kind : std::uint8_t { kStored, kRemoved };

  Kind kind = Kind::kStored;
  std::uint64_t salt = 0;               // of its root
  std::uint64_t hash = 0;               // of the page's tokens and all before them
  std::optional<std::uint64_t> parent;  // kStored: the hash of the page before; none of the first

  friend bool operator==(const PrefixChange&, const PrefixChange&) = default;
};

struct PrefixChanges {
  // The first changes store all that the tree had when it was asked to tell: what was known before
  // counts no more.
  bool whole = false;
  std::vector<PrefixChange> changes;
  std::vector<TokenId> tokens;  // one page for each kStored, in order

  bool empty() const { return !whole && changes.empty(); }

  void store(std::uint64_t salt, std::uint64_t hash, std::optional<std::uint64_t> parent,
             std::span<const TokenId> page) {
    changes.push_back({PrefixChange::Kind::kStored, salt, hash, parent});
    tokens.insert(tokens.end(), page.begin(), page.end());
  }
  void remove(std::uint64_t salt, std::uint64_t hash) {
    changes.push_back({PrefixChange::Kind::kRemoved, salt, hash, std::nullopt});
  }
};

}  // namespace latentd

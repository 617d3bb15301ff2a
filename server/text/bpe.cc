#include "server/text/bpe.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>

#include "base/check.h"
#include "server/text/byte_alphabet.h"

namespace latentd {

Bpe::Bpe(const Vocabulary& vocabulary, bool ignore_merges)
    : vocabulary_(vocabulary), ignore_merges_(ignore_merges) {
  for (std::size_t byte = 0; byte < byte_ids_.size(); ++byte) {
    const char as_char = static_cast<char>(byte);
    byte_ids_[byte] = vocabulary.find(spelling_of_bytes({&as_char, 1})).value_or(-1);
  }
  rehash(16);
}

int Bpe::missing_byte() const {
  const auto missing = std::find(byte_ids_.begin(), byte_ids_.end(), -1);
  return missing == byte_ids_.end() ? -1 : static_cast<int>(missing - byte_ids_.begin());
}

void Bpe::reserve(std::size_t merges) { rehash(std::bit_ceil(merges * 2 + 16)); }

void Bpe::add_merge(TokenId left, TokenId right, TokenId merged) {
  if ((used_slots_ + 1) * 2 > merges_.size()) rehash(merges_.size() * 2);
  Merge& merge = merges_[slot_of(pair_of(left, right))];
  if (merge.pair == kNoPair) ++used_slots_;
  merge = {pair_of(left, right), num_merges_++, merged};
}

std::size_t Bpe::slot_of(std::uint64_t pair) const {
  const std::size_t mask = merges_.size() - 1;
  // Multiplicative hashing (Knuth, volume 3, section 6.4): the high bits are the good ones.
  std::size_t slot = ((pair * 0x9E3779B97F4A7C15ULL) >> 32) & mask;
  while (merges_[slot].pair != kNoPair && merges_[slot].pair != pair) slot = (slot + 1) & mask;
  return slot;
}

void Bpe::rehash(std::size_t num_slots) {
  std::vector<Merge> old(num_slots);
  old.swap(merges_);
  for (const Merge& merge : old) {
    if (merge.pair != kNoPair) merges_[slot_of(merge.pair)] = merge;
  }
}

const Bpe::Merge* Bpe::find(TokenId left, TokenId right) const {
  const Merge& merge = merges_[slot_of(pair_of(left, right))];
  return merge.pair == kNoPair ? nullptr : &merge;
}

void Bpe::encode(std::string_view piece, Scratch& scratch, std::vector<TokenId>& out) const {
  if (piece.size() > sizeof(Scratch::Seen::piece)) {
    merge(piece, scratch, out);
    return;
  }
  if (scratch.seen_.empty()) scratch.seen_.resize(Scratch::kEntries);
  const std::size_t hash = std::hash<std::string_view>{}(piece);
  Scratch::Seen& seen = scratch.seen_[hash % Scratch::kEntries];
  if (seen.size == piece.size() && std::memcmp(seen.piece.data(), piece.data(), seen.size) == 0) {
    out.insert(out.end(), seen.ids.begin(), seen.ids.begin() + seen.count);
    return;
  }
  const std::size_t before = out.size();
  merge(piece, scratch, out);
  const std::size_t count = out.size() - before;
  if (count > seen.ids.size()) return;
  seen.size = static_cast<std::uint8_t>(piece.size());
  seen.count = static_cast<std::uint8_t>(count);
  std::copy(piece.begin(), piece.end(), seen.piece.begin());
  std::copy(out.begin() + static_cast<std::ptrdiff_t>(before), out.end(), seen.ids.begin());
}

// Puts the pair that begins at symbol `left` on the heap, if it merges.
void Bpe::offer(Scratch& scratch, std::int32_t left) const {
  const auto& symbols = scratch.symbols_;
  const Scratch::Symbol& symbol = symbols[static_cast<std::size_t>(left)];
  if (symbol.next < 0) return;
  const Merge* merge = find(symbol.id, symbols[static_cast<std::size_t>(symbol.next)].id);
  if (merge == nullptr) return;
  scratch.heap_.push_back({merge->rank, left, merge->id});
  std::push_heap(scratch.heap_.begin(), scratch.heap_.end(), std::greater<>{});
}

void Bpe::merge(std::string_view piece, Scratch& scratch, std::vector<TokenId>& out) const {
  if (ignore_merges_) {
    if (const auto whole = vocabulary_.find(spelling_of_bytes(piece))) {
      out.push_back(*whole);
      return;
    }
  }
  LATENTD_CHECK(piece.size() <= kMaxPieceBytes, "a piece of {} bytes", piece.size());
  auto& symbols = scratch.symbols_;
  symbols.clear();
  for (const char c : piece) {
    const TokenId id = byte_ids_[static_cast<unsigned char>(c)];
    if (id < 0) continue;
    const auto index = static_cast<std::int32_t>(symbols.size());
    if (index > 0) symbols.back().next = index;
    symbols.push_back({id, index - 1, -1, false});
  }
  scratch.heap_.clear();
  for (std::size_t i = 0; i + 1 < symbols.size(); ++i) offer(scratch, static_cast<std::int32_t>(i));

  while (!scratch.heap_.empty()) {
    std::pop_heap(scratch.heap_.begin(), scratch.heap_.end(), std::greater<>{});
    const Scratch::Candidate top = scratch.heap_.back();
    scratch.heap_.pop_back();
    Scratch::Symbol& left = symbols[static_cast<std::size_t>(top.position)];
    if (left.merged || left.next < 0) continue;
    Scratch::Symbol& right = symbols[static_cast<std::size_t>(left.next)];
    const Merge* merge = find(left.id, right.id);
    if (merge == nullptr || merge->id != top.id) continue;  // stale

    left.id = top.id;
    left.next = right.next;
    right.merged = true;
    if (left.next >= 0) symbols[static_cast<std::size_t>(left.next)].previous = top.position;
    if (left.previous >= 0) offer(scratch, left.previous);
    offer(scratch, top.position);
  }
  for (const Scratch::Symbol& symbol : symbols) {
    if (!symbol.merged) out.push_back(symbol.id);
  }
}

}  // namespace latentd

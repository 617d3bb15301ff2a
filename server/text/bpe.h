// Bpe: byte-pair merges of one piece (Sennrich et al., 2016), in the order of the `tokenizers`
// package.
//
// The merge of lowest rank first, of equals the leftmost, from a heap: O(n log n) for a piece of n
// bytes. An entry of the heap is stale when its pair no longer merges to the token it promised; so
// two merges to one token share entries, exactly as in the package.
//
// Contract: immutable once built; thread-safe with a Scratch for each thread.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "server/text/vocabulary.h"

namespace latentd {

class Bpe final {
 public:
  // Working memory, and the ids of recently seen short pieces (1 MiB). It belongs to one Bpe.
  class Scratch {
   private:
    friend class Bpe;
    static constexpr std::size_t kEntries = 16384;
    struct Seen {
      std::uint8_t size = 0;  // bytes of the piece; 0: free
      std::uint8_t count = 0;
      std::array<char, 30> piece;
      std::array<TokenId, 8> ids;
    };
    struct Symbol {
      TokenId id;
      std::int32_t previous;
      std::int32_t next;  // -1: the last
      bool merged;        // into the one before it
    };
    struct Candidate {
      std::uint32_t rank;
      std::int32_t position;  // of its left symbol
      TokenId id;             // that the pair becomes
      bool operator>(const Candidate& other) const {
        return rank != other.rank ? rank > other.rank : position > other.position;
      }
    };
    std::vector<Seen> seen_;
    std::vector<Symbol> symbols_;
    std::vector<Candidate> heap_;
  };

  static constexpr std::size_t kMaxPieceBytes = (std::size_t{1} << 31) - 1;

  // Takes the ids of single bytes from `vocabulary`, which must outlive it. With `ignore_merges` a
  // piece that is a token as a whole is that token.
  Bpe(const Vocabulary& vocabulary, bool ignore_merges);

  void reserve(std::size_t merges);
  // The next merge, in order of rank. A pair that comes again takes the later rank.
  void add_merge(TokenId left, TokenId right, TokenId merged);

  // A byte that is no token: Bpe leaves it out of its output. -1 when there is none.
  int missing_byte() const;

  // Appends the ids of `piece`. REQUIRES: at most kMaxPieceBytes.
  void encode(std::string_view piece, Scratch& scratch, std::vector<TokenId>& out) const;

 private:
  struct Merge {
    std::uint64_t pair = kNoPair;  // left << 32 | right
    std::uint32_t rank = 0;
    TokenId id = 0;
  };
  static constexpr std::uint64_t kNoPair = ~std::uint64_t{0};

  static std::uint64_t pair_of(TokenId left, TokenId right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 |
           static_cast<std::uint32_t>(right);
  }
  std::size_t slot_of(std::uint64_t pair) const;
  void rehash(std::size_t num_slots);
  const Merge* find(TokenId left, TokenId right) const;
  void merge(std::string_view piece, Scratch& scratch, std::vector<TokenId>& out) const;
  void offer(Scratch& scratch, std::int32_t left) const;

  const Vocabulary& vocabulary_;
  bool ignore_merges_;
  std::array<TokenId, 256> byte_ids_;
  std::vector<Merge> merges_;  // open addressing
  std::uint32_t num_merges_ = 0;
  std::size_t used_slots_ = 0;
};

}  // namespace latentd

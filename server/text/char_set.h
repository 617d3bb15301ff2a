// CharSet: a set of code points while a pattern is read. CharClass: the same, for asking quickly.
//
// Contract: values; a const CharClass may be asked from any thread.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <vector>

#include "server/text/unicode_category.h"

namespace latentd {

class CharSet final {
 public:
  struct Range {
    char32_t first;
    char32_t last;  // inclusive
    friend bool operator==(const Range&, const Range&) = default;
  };

  static CharSet of(char32_t first, char32_t last);
  static CharSet categories(CategoryMask mask);
  // What \s is to Oniguruma: U+0009 .. U+000D, U+0085 and the separators (Z).
  static CharSet white_space();

  void add(const CharSet& other);
  void negate();
  // Adds the other case of every ASCII letter, and the two letters beyond ASCII that fold to one:
  // U+017F (s) and U+212A (k).
  void add_ascii_case();

  bool empty() const { return ranges_.empty(); }
  bool contains(char32_t code_point) const;
  // Ascending, apart from each other by at least one code point.
  const std::vector<Range>& ranges() const { return ranges_; }

  // The bytes that the UTF-8 form of a member can begin with.
  std::bitset<256> lead_bytes() const;

 private:
  void normalise();

  std::vector<Range> ranges_;
};

class CharClass final {
 public:
  explicit CharClass(const CharSet& set);

  bool contains_ascii(unsigned char byte) const {
    return ((ascii_[byte >> 6] >> (byte & 63)) & 1) != 0;
  }
  bool contains(char32_t code_point) const {
    const Block& block = blocks_[index_[code_point >> 8]];
    return ((block[(code_point >> 6) & 3] >> (code_point & 63)) & 1) != 0;
  }

 private:
  using Block = std::array<std::uint64_t, 4>;  // 256 code points
  static constexpr std::size_t kNumBlocks = (kMaxCodePoint + 1) / 256;

  std::array<std::uint64_t, 2> ascii_{};
  std::vector<std::uint16_t> index_;  // [kNumBlocks]
  std::vector<Block> blocks_;         // 0 is empty, 1 is full, then the mixed ones
};

}  // namespace latentd

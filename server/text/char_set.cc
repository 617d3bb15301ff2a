#include "server/text/char_set.h"

#include <algorithm>
#include <string>

#include "server/text/utf8.h"

namespace latentd {

namespace {

unsigned char lead_byte(char32_t code_point) {
  std::string encoded;
  utf8::append(code_point, encoded);
  return static_cast<unsigned char>(encoded[0]);
}

}  // namespace

CharSet CharSet::of(char32_t first, char32_t last) {
  CharSet set;
  set.ranges_.push_back({first, last});
  return set;
}

CharSet CharSet::categories(CategoryMask mask) {
  CharSet set;
  const auto runs = category_runs();
  for (std::size_t i = 0; i < runs.size(); ++i) {
    if (((mask >> (runs[i] & 31)) & 1) == 0) continue;
    const char32_t end = i + 1 < runs.size() ? runs[i + 1] >> 5 : kMaxCodePoint + 1;
    set.ranges_.push_back({runs[i] >> 5, end - 1});
  }
  set.normalise();
  return set;
}

CharSet CharSet::white_space() {
  CharSet set = categories(*category_mask("Z"));
  set.add(of(0x09, 0x0D));
  set.add(of(0x85, 0x85));
  return set;
}

void CharSet::add(const CharSet& other) {
  ranges_.insert(ranges_.end(), other.ranges_.begin(), other.ranges_.end());
  normalise();
}

void CharSet::normalise() {
  std::sort(ranges_.begin(), ranges_.end(),
            [](const Range& a, const Range& b) { return a.first < b.first; });
  std::vector<Range> merged;
  for (const Range& range : ranges_) {
    if (!merged.empty() && range.first <= merged.back().last + 1) {
      merged.back().last = std::max(merged.back().last, range.last);
    } else {
      merged.push_back(range);
    }
  }
  ranges_ = std::move(merged);
}

void CharSet::negate() {
  std::vector<Range> rest;
  char32_t next = 0;
  for (const Range& range : ranges_) {
    if (range.first > next) rest.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  if (next <= kMaxCodePoint) rest.push_back({next, kMaxCodePoint});
  ranges_ = std::move(rest);
}

void CharSet::add_ascii_case() {
  CharSet more;
  for (char32_t upper = U'A'; upper <= U'Z'; ++upper) {
    const char32_t lower = upper + 32;
    const char32_t beyond = lower == U's' ? 0x17F : lower == U'k' ? 0x212A : upper;
    if (!contains(upper) && !contains(lower) && !contains(beyond)) continue;
    for (const char32_t c : {upper, lower, beyond}) more.ranges_.push_back({c, c});
  }
  add(more);
}

bool CharSet::contains(char32_t code_point) const {
  return std::any_of(ranges_.begin(), ranges_.end(), [code_point](const Range& range) {
    return range.first <= code_point && code_point <= range.last;
  });
}

std::bitset<256> CharSet::lead_bytes() const {
  std::bitset<256> bytes;
  for (const Range& range : ranges_) {
    for (unsigned b = lead_byte(range.first); b <= lead_byte(range.last); ++b) bytes.set(b);
  }
  return bytes;
}

CharClass::CharClass(const CharSet& set)
    : index_(kNumBlocks, 0), blocks_{Block{}, Block{~0ULL, ~0ULL, ~0ULL, ~0ULL}} {
  for (const CharSet::Range& range : set.ranges()) {
    for (char32_t block = range.first >> 8; block <= range.last >> 8; ++block) {
      const char32_t begin = std::max<char32_t>(range.first, block << 8);
      const char32_t last = std::min<char32_t>(range.last, (block << 8) | 255);
      if (last - begin == 255) {
        index_[block] = 1;
        continue;
      }
      if (index_[block] == 0) {
        index_[block] = static_cast<std::uint16_t>(blocks_.size());
        blocks_.push_back({});
      }
      Block& bits = blocks_[index_[block]];
      for (char32_t c = begin; c <= last; ++c) bits[(c >> 6) & 3] |= 1ULL << (c & 63);
    }
  }
  ascii_ = {blocks_[index_[0]][0], blocks_[index_[0]][1]};
}

}  // namespace latentd

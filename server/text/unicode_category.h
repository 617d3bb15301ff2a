// Unicode general categories (Unicode 16.0, that of Oniguruma 6.9.10 inside the `tokenizers`
// package).
//
// Contract: constant data; thread-safe. Code points are 0 .. kMaxCodePoint, surrogates included.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace latentd {

inline constexpr char32_t kMaxCodePoint = 0x10FFFF;

// The order is that of tools/unicode/make_category_table.py.
enum class Category : std::uint8_t {
  kLu,
  kLl,
  kLt,
  kLm,
  kLo,
  kMn,
  kMc,
  kMe,
  kNd,
  kNl,
  kNo,
  kPc,
  kPd,
  kPs,
  kPe,  // clang-format off
  kPi, kPf, kPo, kSm, kSc, kSk, kSo, kZs, kZl, kZp, kCc, kCf, kCs, kCo, kCn,  // clang-format on
};

// A set of categories: bit of each.
using CategoryMask = std::uint32_t;

constexpr CategoryMask category_bit(Category category) {
  return CategoryMask{1} << static_cast<unsigned>(category);
}

// "L" is all of "Lu", "Ll", "Lt", "Lm", "Lo"; nothing for a name that is not a category's.
std::optional<CategoryMask> category_mask(std::string_view name);

// Runs of one category in code point order, covering everything: first << 5 | category.
std::span<const std::uint32_t> category_runs();

Category category_of(char32_t code_point);

}  // namespace latentd

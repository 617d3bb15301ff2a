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

// A set of categories: bit of each, in the order of tools/unicode/make_category_table.py.
using CategoryMask = std::uint32_t;

// "L" is all of "Lu", "Ll", "Lt", "Lm", "Lo"; nothing for a name that is not a category's.
std::optional<CategoryMask> category_mask(std::string_view name);

// Runs of one category in code point order, covering everything: first << 5 | category.
std::span<const std::uint32_t> category_runs();

}  // namespace latentd

#include "server/text/unicode_category.h"

#include <algorithm>
#include <array>

namespace latentd {

namespace {

constexpr std::uint32_t kRuns[] = {
#include "server/text/unicode_category_table.inc"
};

constexpr std::array<std::string_view, 30> kNames = {
    "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe",
    "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co", "Cn"};

}  // namespace

std::optional<CategoryMask> category_mask(std::string_view name) {
  CategoryMask mask = 0;
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    const bool of_group = name.size() == 1 && kNames[i][0] == name[0];
    if (of_group || kNames[i] == name) mask |= CategoryMask{1} << i;
  }
  if (mask == 0) return std::nullopt;
  return mask;
}

std::span<const std::uint32_t> category_runs() { return kRuns; }

Category category_of(char32_t code_point) {
  const auto after = std::upper_bound(std::begin(kRuns), std::end(kRuns), (code_point << 5) | 31);
  return static_cast<Category>(*(after - 1) & 31);
}

}  // namespace latentd

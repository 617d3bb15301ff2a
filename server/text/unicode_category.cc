#include "server/text/unicode_category.h"

#include <array>

namespace latentd {

namespace {

constexpr std::uint32_t kRuns[] = {
#include "server/text/unicode_category_table.inc"
};

// In the order of the table's categories.
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

}  // namespace latentd

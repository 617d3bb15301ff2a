// The version of this build, from the root CMakeLists.txt.
#pragma once

#include <string_view>

namespace latentd {

inline constexpr std::string_view kVersion = LATENTD_VERSION;

}  // namespace latentd

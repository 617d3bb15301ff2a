// strftime in English, whatever the process's locale.
//
// Contract: pure. `time` is the caller's: nothing here reads a clock.
#pragma once

#include <ctime>
#include <string>
#include <string_view>

#include "base/result.h"

namespace latentd::jinja {

// Conversions: %a %A %b %B %c %d %D %e %F %H %I %j %m %M %n %p %S %t %T %u %w %x %X %y %Y %%, with
// `-` after the percent sign to leave out padding. Others are kInvalidArgument.
Result<std::string> format_time(std::string_view format, const std::tm& time);

}  // namespace latentd::jinja

// `"text %s %d" % values`, of which templates use the plain conversions.
//
// Contract: %s, %r, %d, %i and %% without flags or widths; anything else is kInvalidArgument, as
// are too few or too many values.
#pragma once

#include <string_view>

#include "server/text/template/runtime.h"

namespace latentd::jinja {

// `values` is a tuple of all, or the only one.
Result<Value> printf_format(Runtime& runtime, std::string_view format, const Value& values);

}  // namespace latentd::jinja

// Methods of str, and the parts of them that filters share.
//
// Contract: Python's semantics over code points; see builtins.h.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "server/text/template/runtime.h"

namespace latentd::jinja {

std::span<const Method> string_methods();

// str.replace; a negative `count` replaces all.
Result<Value> replace_text(Runtime& runtime, std::string_view text, std::string_view from,
                           std::string_view to, std::int64_t count);
// str.splitlines(keepends).
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends);
// str.center.
Result<Value> center_text(Runtime& runtime, const Value& text, std::int64_t width,
                          std::string_view fill);

}  // namespace latentd::jinja

// Template source to syntax tree.
//
// Contract: pure. The grammar is that of Jinja 3.1 with the loop controls extension and the
// `generation` tag. Refused with kInvalidArgument, "line N: what": what does not parse, templates
// that need other files (include, import, extends, block), recursive for, autoescape. A tree deeper
// than `limits.max_nesting` or a source longer than its limit: kResourceExhausted.
#pragma once

#include <string_view>

#include "base/result.h"
#include "server/text/template/ast.h"
#include "server/text/template/limits.h"

namespace latentd::jinja {

// REQUIRES: `source` is valid UTF-8.
Result<Tree> parse_template(std::string_view source, const TemplateLimits& limits);

}  // namespace latentd::jinja

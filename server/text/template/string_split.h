// The methods of str that take text apart.
//
// Contract: called as methods (builtins.h); Python's semantics.
#pragma once

#include "server/text/template/runtime.h"

namespace latentd::jinja {

Result<Value> split_first(Runtime& runtime, const Value& text, const Arguments& given);  // split
Result<Value> split_last(Runtime& runtime, const Value& text, const Arguments& given);   // rsplit
Result<Value> split_into_lines(Runtime& runtime, const Value& text, const Arguments& given);
Result<Value> partition_first(Runtime& runtime, const Value& text, const Arguments& given);
Result<Value> partition_last(Runtime& runtime, const Value& text, const Arguments& given);

}  // namespace latentd::jinja

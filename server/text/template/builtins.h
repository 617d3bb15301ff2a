// Filters, tests, methods and global functions by name.
//
// Contract: constant tables; thread-safe. Null for a name that does not exist here. What they do is
// what their namesakes of Jinja 3.1 and Python do; where text has to be told apart as "safe" for
// HTML they do not exist, except `safe`, which changes nothing.
#pragma once

#include <string_view>

#include "server/text/template/runtime.h"

namespace latentd::jinja {

FilterFunction find_filter(std::string_view name);
TestFunction find_test(std::string_view name);
const Function* find_function(std::string_view name);
// A method of str, dict, list, tuple or range that does not change its object.
const Method* find_method(const Value& receiver, std::string_view name);

// A row of the tables that make up find_filter.
struct NamedFilter {
  std::string_view name;
  FilterFunction function;
};

}  // namespace latentd::jinja

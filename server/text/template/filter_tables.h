// The tables that make up find_filter, one a file.
//
// Contract: constant data.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "server/text/template/builtins.h"

namespace latentd::jinja {

std::span<const NamedFilter> text_filters();      // upper, trim, replace, indent, tojson, ...
std::span<const NamedFilter> number_filters();    // int, float, round, abs
std::span<const NamedFilter> sequence_filters();  // join, first, sort, unique, batch, ...
std::span<const NamedFilter> mapping_filters();   // map, select, reject, selectattr, rejectattr

// "a.b.0" of a filter's `attribute` argument: what to look up, one after the other.
class AttributePath final {
 public:
  // none: the item itself.
  static Result<AttributePath> parse(const Value& attribute);
  // Undefined ones become `substitute` when that is given.
  Result<Value> get(Runtime& runtime, Value item,
                    const std::optional<Value>& substitute = std::nullopt) const;

 private:
  std::vector<Value> parts_;
};

}  // namespace latentd::jinja

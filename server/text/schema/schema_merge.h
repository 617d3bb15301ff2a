// What it takes to satisfy two schemas at once (allOf, anyOf beside other keywords, $ref beside
// other keywords), as one schema.
//
// Contract: pure functions. kInvalidArgument where two keywords cannot be made one.
#pragma once

#include <string_view>

#include "base/result.h"
#include "server/text/schema/schema_tree.h"

namespace latentd {

// Says nothing about what is valid: title, description, $defs ...
bool is_annotation(std::string_view keyword);

// Compares two numbers of JSON by value (as doubles).
bool number_less(std::string_view a, std::string_view b);

// Both are schemas without $ref at their top.
Result<SchemaValue> merge_schemas(const SchemaValue& a, const SchemaValue& b);

// The schema that "$ref": `reference` names; nullptr when there is none.
const SchemaValue* resolve_reference(const SchemaValue& document, std::string_view reference);

}  // namespace latentd

// The compiler from a schema's document to tables.
//
// Contract: pure function; errors and limits as schema_program.h says.
#pragma once

#include "base/result.h"
#include "server/text/schema/program_tables.h"
#include "server/text/schema/schema_tree.h"

namespace latentd {

inline constexpr std::size_t kMaxSchemaValues = 32768;      // places compiled, merged ones included
inline constexpr std::size_t kMaxAlternatives = 256;        // of one place
inline constexpr std::size_t kMaxAllAlternatives = 131072;  // of all

Result<ProgramTables> compile_schema(const SchemaValue& document);

}  // namespace latentd

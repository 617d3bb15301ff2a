#include "server/text/schema/schema_program.h"

#include <utility>

#include "server/text/schema/schema_compiler.h"

namespace latentd {

Result<std::shared_ptr<const SchemaProgram>> SchemaProgram::compile(std::string_view schema,
                                                                    std::size_t max_bytes) {
  LATENTD_ASSIGN_OR_RETURN(const SchemaValue document, parse_schema_value(schema, max_bytes));
  LATENTD_ASSIGN_OR_RETURN(ProgramTables tables, compile_schema(document));
  return std::shared_ptr<const SchemaProgram>(new SchemaProgram(std::move(tables)));
}

std::shared_ptr<const SchemaProgram> SchemaProgram::any_object() {
  return compile(R"({"type": "object"})").value();
}

}  // namespace latentd

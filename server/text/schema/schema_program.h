// SchemaProgram: a JSON schema compiled to a byte-level pushdown automaton.
//
// What it makes satisfies the schema (draft 2020-12, as the Python package jsonschema reads it),
// with these choices, which narrow the language and never widen it:
//   white space   none, or one space or line feed after { [ , : and before } ]
//   properties    in the order of "properties", then others; names in their canonical spelling
//   closed        absent additionalProperties beside "properties" means false, absent items beside
//                 prefixItems likewise (what OpenAI's strict mode and vLLM do)
//   oneOf         is read as anyOf
//   spelling      const, enum, pattern and format: one canonical spelling (json_string.h); numbers
//   as
//                 in number_dfa.h
//   type          when absent but implied by other keywords (properties: object), the implied one
//   depth         at most 64 values inside of each other
// Keywords: type, nullable, enum, const, anyOf, oneOf, allOf, $ref (# and #/...), properties,
// required, additionalProperties, unevaluatedProperties (false), items, prefixItems, minItems,
// maxItems, minLength, maxLength, pattern (pattern_parser.h), format (pattern_dfa.h), minimum,
// maximum, exclusiveMinimum, exclusiveMaximum; uniqueItems only as false. Annotations are ignored.
// Everything else is refused with kInvalidArgument and the JSON pointer to it.
//
// Contract: immutable after compile; shared by the constraints of many requests, on any threads
// (the one reason for the shared_ptr). Compiling takes bounded time and memory whatever the schema;
// it belongs off the engine thread.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include "base/result.h"
#include "server/text/schema/program_tables.h"
#include "server/text/schema/schema_tree.h"

namespace latentd {

class SchemaProgram final {
 public:
  // kInvalidArgument (names the place), kResourceExhausted (more than `max_bytes`).
  static Result<std::shared_ptr<const SchemaProgram>> compile(
      std::string_view schema, std::size_t max_bytes = kMaxSchemaBytes);
  // Any JSON object: response_format json_object.
  static std::shared_ptr<const SchemaProgram> any_object();

  const ProgramTables& tables() const { return tables_; }

 private:
  explicit SchemaProgram(ProgramTables tables) : tables_(std::move(tables)) {}

  ProgramTables tables_;
};

}  // namespace latentd

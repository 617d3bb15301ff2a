// StructuredOutput: what a door needs for response_format and strict tools: a schema's text in, a
// constraint for one request out.
//
// The vocabulary's trie is built at the first use; programs are kept by the text of their schema,
// the most recently used kMaxPrograms, so that a client that sends one schema a thousand times pays
// once for it.
//
// Contract: any thread at once; never the engine thread (a first use takes tens of milliseconds,
// and so does a large schema). The tokenizer must outlive the first use.
#pragma once

#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "scheduler/token_constraint.h"
#include "server/text/schema/schema_program.h"
#include "server/text/schema/vocabulary_trie.h"

namespace latentd {

class StructuredOutput final {
 public:
  static constexpr std::size_t kMaxPrograms = 64;

  // `eos`: the ids that end a text; allowed exactly when a value may be complete.
  // Schemas of more than `max_schema_bytes` are refused.
  StructuredOutput(const Tokenizer& tokenizer, std::vector<TokenId> eos,
                   std::size_t max_schema_bytes = kMaxSchemaBytes);

  // response_format json_object.
  std::unique_ptr<TokenConstraint> json_object();
  // response_format json_schema, or a tool's parameters: `schema` is the JSON text of the schema.
  // kInvalidArgument, kResourceExhausted: SchemaProgram::compile. The message begins with "schema".
  Result<std::unique_ptr<TokenConstraint>> json_schema(std::string_view schema);

 private:
  struct Kept {
    std::string schema;
    std::shared_ptr<const SchemaProgram> program;
  };

  Result<std::shared_ptr<const SchemaProgram>> program_of(std::string_view schema);
  std::shared_ptr<const VocabularyTrie> vocabulary();

  const Tokenizer& tokenizer_;
  const std::vector<TokenId> eos_;
  const std::size_t max_schema_bytes_;
  std::once_flag built_;
  std::shared_ptr<const VocabularyTrie> vocabulary_;
  std::mutex mutex_;
  std::list<Kept> programs_;  // most recently used first; guarded by mutex_
  std::unordered_map<std::string_view, std::list<Kept>::iterator> by_schema_;  // likewise
};

}  // namespace latentd

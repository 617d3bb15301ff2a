#include "server/text/schema/structured_output.h"

#include <utility>

#include "server/text/schema/json_constraint.h"

namespace latentd {

StructuredOutput::StructuredOutput(const Tokenizer& tokenizer, std::vector<TokenId> eos,
                                   std::size_t max_schema_bytes)
    : tokenizer_(tokenizer), eos_(std::move(eos)), max_schema_bytes_(max_schema_bytes) {}

std::shared_ptr<const VocabularyTrie> StructuredOutput::vocabulary() {
  std::call_once(built_, [this] { vocabulary_ = VocabularyTrie::build(tokenizer_); });
  return vocabulary_;
}

std::unique_ptr<TokenConstraint> StructuredOutput::json_object() {
  return make_json_constraint(SchemaProgram::any_object(), vocabulary(), eos_);
}

Result<std::unique_ptr<TokenConstraint>> StructuredOutput::json_schema(std::string_view schema) {
  LATENTD_ASSIGN_OR_RETURN(std::shared_ptr<const SchemaProgram> program, program_of(schema));
  return make_json_constraint(std::move(program), vocabulary(), eos_);
}

Result<std::shared_ptr<const SchemaProgram>> StructuredOutput::program_of(std::string_view schema) {
  {
    const std::lock_guard lock(mutex_);
    const auto found = by_schema_.find(schema);
    if (found != by_schema_.end()) {
      programs_.splice(programs_.begin(), programs_, found->second);
      return found->second->program;
    }
  }
  // Compiled without the lock: two threads may do the same work once, none waits for the other.
  LATENTD_ASSIGN_OR_RETURN(std::shared_ptr<const SchemaProgram> program,
                           SchemaProgram::compile(schema, max_schema_bytes_));
  const std::lock_guard lock(mutex_);
  if (by_schema_.contains(schema)) return program;
  programs_.push_front({std::string(schema), program});
  by_schema_.emplace(programs_.front().schema, programs_.begin());
  if (programs_.size() > kMaxPrograms) {
    by_schema_.erase(programs_.back().schema);
    programs_.pop_back();
  }
  return program;
}

}  // namespace latentd

// Walks a syntax tree and writes the text that it renders to.
//
// Contract: one Evaluator renders once, on one thread. `tree` and `context` outlive it. Errors
// carry the line of the innermost expression or statement at fault, except those of
// raise_exception.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "server/text/template/ast.h"
#include "server/text/template/operations.h"
#include "server/text/template/runtime.h"

namespace latentd::jinja {

class Evaluator final {
 public:
  // `context` is a map of the names that the template may use.
  Evaluator(const Tree& tree, const Map& context, Runtime& runtime);

  Result<std::string> run();

 private:
  enum class Flow : std::uint8_t { kNext, kBreak, kContinue };
  class ScopeGuard;

  // Statements.
  Result<Flow> run_block(const Block& block);
  Result<Flow> run(const Stmt& stmt);
  Result<Flow> run_node(const TextStmt& stmt);
  Result<Flow> run_node(const PrintStmt& stmt);
  Result<Flow> run_node(const IfStmt& stmt);
  Result<Flow> run_node(const ForStmt& stmt);
  Result<Flow> run_node(const SetStmt& stmt);
  Result<Flow> run_node(const SetBlockStmt& stmt);
  Result<Flow> run_node(const MacroStmt& stmt);
  Result<Flow> run_node(const CallStmt& stmt);
  Result<Flow> run_node(const FilterStmt& stmt);
  Result<Flow> run_node(const WithStmt& stmt);
  Result<Flow> run_node(const GenerationStmt& stmt);
  Result<Flow> run_node(const BreakStmt&) { return Flow::kBreak; }
  Result<Flow> run_node(const ContinueStmt&) { return Flow::kContinue; }

  Status write(std::string_view text);
  Status write(const Value& value);
  // What `block` writes, as a value; with how it ended.
  Result<Flow> capture(const Block& block, Value& out);
  Status assign(const Target& target, const Value& value);
  // Whether the condition of a for statement lets `item` pass.
  Result<bool> passes(const ForStmt& stmt, const Value& item);
  Result<ItemsPtr> passing(const ForStmt& stmt, const ItemsPtr& items);

  // Expressions.
  Result<Value> eval(const Expr& expr);
  Result<Value> eval_or_none(const ExprPtr& expr);
  Result<Value> eval_node(const LiteralExpr& expr) { return expr.value; }
  Result<Value> eval_node(const NameExpr& expr);
  Result<Value> eval_node(const UnaryExpr& expr);
  Result<Value> eval_node(const BinaryExpr& expr);
  Result<Value> eval_node(const LogicalExpr& expr);
  Result<Value> eval_node(const ConcatExpr& expr);
  Result<Value> eval_node(const CompareExpr& expr);
  Result<Value> eval_node(const ConditionalExpr& expr);
  Result<Value> eval_node(const CallExpr& expr);
  Result<Value> eval_node(const FilterExpr& expr);
  Result<Value> eval_node(const TestExpr& expr);
  Result<Value> eval_node(const AttributeExpr& expr);
  Result<Value> eval_node(const IndexExpr& expr);
  Result<Value> eval_node(const SliceExpr& expr);
  Result<Value> eval_node(const SequenceExpr& expr);
  Result<Value> eval_node(const MapExpr& expr);

  // Calls.
  Result<Arguments> eval_arguments(const CallArguments& given);
  Result<Value> call(const Value& callee, const Arguments& arguments);
  Result<Value> call_macro(const Macro& macro, const Arguments& arguments);
  Status bind_macro(const MacroNode& node, const Arguments& arguments, Scope& scope);
  Status bind_special(const MacroNode& node, const Arguments& arguments,
                      const std::vector<bool>& used_keywords, Scope& scope);

  Value look_up(int symbol) const;
  int symbol(std::string_view name) const;
  // Puts the line in front of the first error on its way out.
  Status locate(Status status, int line);

  const Tree& tree_;
  const Map& context_;
  Runtime& runtime_;
  const int loop_symbol_, caller_symbol_, varargs_symbol_, kwargs_symbol_;
  Scope* scope_ = nullptr;
  std::string output_;
  std::string* out_ = &output_;
  const Value* block_input_ = nullptr;  // what a filter without an input applies to
  bool located_ = false;
};

// A block's names, for the life of this guard. Scopes that macros refer to go on to live in the
// runtime.
class Evaluator::ScopeGuard {
 public:
  ScopeGuard(Evaluator& evaluator, Scope* parent)
      : evaluator_(evaluator), outer_(evaluator.scope_), scope_(std::make_unique<Scope>(parent)) {
    evaluator_.scope_ = scope_.get();
  }
  explicit ScopeGuard(Evaluator& evaluator) : ScopeGuard(evaluator, evaluator.scope_) {}
  ~ScopeGuard() {
    evaluator_.scope_ = outer_;
    if (scope_->captured()) evaluator_.runtime_.keep(std::move(scope_));
  }
  ScopeGuard(const ScopeGuard&) = delete;
  ScopeGuard& operator=(const ScopeGuard&) = delete;

  Scope& scope() { return *scope_; }

 private:
  Evaluator& evaluator_;
  Scope* const outer_;
  std::unique_ptr<Scope> scope_;
};

}  // namespace latentd::jinja

#include "server/text/template/evaluator.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>

#include "server/text/template/builtins.h"
#include "server/text/template/python_text.h"

namespace latentd::jinja {

Evaluator::Evaluator(const Tree& tree, const Map& context, Runtime& runtime)
    : tree_(tree),
      context_(context),
      runtime_(runtime),
      loop_symbol_(symbol("loop")),
      caller_symbol_(symbol("caller")),
      varargs_symbol_(symbol("varargs")),
      kwargs_symbol_(symbol("kwargs")) {}

// -1 when the template does not use the name, which no scope then needs to hold.
int Evaluator::symbol(std::string_view name) const {
  const auto found = std::find(tree_.symbols.begin(), tree_.symbols.end(), name);
  return found == tree_.symbols.end() ? -1 : static_cast<int>(found - tree_.symbols.begin());
}

Result<std::string> Evaluator::run() {
  const ScopeGuard scope(*this);
  LATENTD_RETURN_IF_ERROR(run_block(tree_.body).status());
  return std::move(output_);
}

Status Evaluator::locate(Status status, int line) {
  if (located_ || runtime_.raised) return status;
  located_ = true;
  return {status.code(), fmt::format("line {}: {}", line, status.message())};
}

Status Evaluator::write(std::string_view text) {
  const TemplateLimits& limits = runtime_.budget.limits();
  if (out_ == &output_ && text.size() > limits.max_output_bytes - output_.size()) {
    return {StatusCode::kResourceExhausted,
            fmt::format("the template exceeds the limit of {} bytes of output",
                        limits.max_output_bytes)};
  }
  if (out_ == &output_) {
    LATENTD_RETURN_IF_ERROR(runtime_.budget.spend(1 + text.size() / 32));
  } else {
    LATENTD_RETURN_IF_ERROR(runtime_.budget.grow_string(out_->size() + text.size(), text.size()));
  }
  out_->append(text);
  return ok_status();
}

Status Evaluator::write(const Value& value) {
  if (value.is_string()) return write(value.bytes());
  LATENTD_ASSIGN_OR_RETURN(const std::string text, to_text(runtime_, value));
  return write(text);
}

Result<Evaluator::Flow> Evaluator::run_block(const Block& block) {
  for (const Stmt& stmt : block) {
    LATENTD_ASSIGN_OR_RETURN(const Flow flow, run(stmt));
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Result<Evaluator::Flow> Evaluator::run(const Stmt& stmt) {
  const DepthGuard guard(runtime_);
  if (!guard.status().ok()) return locate(guard.status(), stmt.line);
  Status spent = runtime_.budget.spend(1);
  if (!spent.ok()) return locate(std::move(spent), stmt.line);
  Result<Flow> flow = std::visit([this](const auto& node) { return run_node(node); }, stmt.node);
  if (!flow.ok()) return locate(flow.status(), stmt.line);
  return flow;
}

Result<Evaluator::Flow> Evaluator::run_node(const TextStmt& stmt) {
  LATENTD_RETURN_IF_ERROR(write(stmt.text));
  return Flow::kNext;
}

Result<Evaluator::Flow> Evaluator::run_node(const PrintStmt& stmt) {
  LATENTD_ASSIGN_OR_RETURN(const Value value, eval(*stmt.value));
  LATENTD_RETURN_IF_ERROR(write(value));
  return Flow::kNext;
}

Result<Evaluator::Flow> Evaluator::run_node(const IfStmt& stmt) {
  for (const auto& [condition, body] : stmt.branches) {
    LATENTD_ASSIGN_OR_RETURN(const Value holds, eval(*condition));
    if (truthy(holds)) return run_block(body);
  }
  return run_block(stmt.otherwise);
}

Result<bool> Evaluator::passes(const ForStmt& stmt, const Value& item) {
  const ScopeGuard scope(*this);
  LATENTD_RETURN_IF_ERROR(assign(stmt.target, item));
  LATENTD_ASSIGN_OR_RETURN(const Value holds, eval(*stmt.condition));
  return truthy(holds);
}

Result<ItemsPtr> Evaluator::passing(const ForStmt& stmt, const ItemsPtr& items) {
  auto kept = std::make_shared<std::vector<Value>>();
  for (const Value& item : *items) {
    LATENTD_ASSIGN_OR_RETURN(const bool passes_, passes(stmt, item));
    if (passes_) kept->push_back(item);
  }
  return ItemsPtr(std::move(kept));
}

Result<Evaluator::Flow> Evaluator::run_node(const ForStmt& stmt) {
  LATENTD_ASSIGN_OR_RETURN(const Value walked, eval(*stmt.items));
  LATENTD_ASSIGN_OR_RETURN(ItemsPtr items, iterate(runtime_, walked));
  // `loop` knows how many items pass, so they are chosen before the first; without it the condition
  // sees what the body did before, as jinja2's generators do.
  const bool chosen_first = stmt.condition != nullptr && stmt.uses_loop;
  if (chosen_first) {
    LATENTD_ASSIGN_OR_RETURN(items, passing(stmt, items));
  }
  std::shared_ptr<LoopState> loop;
  if (stmt.uses_loop) {
    loop = std::make_shared<LoopState>();
    loop->items = items;
    loop->depth = walked.depth() + 1;
    LATENTD_RETURN_IF_ERROR(runtime_.budget.check_value_depth(loop->depth));
  }
  // As in jinja2, an iteration that is left early does not count against `else`.
  bool completed = false;
  for (std::size_t i = 0; i < items->size(); ++i) {
    const Value& item = (*items)[i];
    LATENTD_RETURN_IF_ERROR(runtime_.budget.spend(1));
    if (stmt.condition != nullptr && !chosen_first) {
      LATENTD_ASSIGN_OR_RETURN(const bool passes_, passes(stmt, item));
      if (!passes_) continue;
    }
    ScopeGuard scope(*this);
    if (loop != nullptr) {
      loop->index = i;
      scope.scope().set(loop_symbol_, Value::of(loop));
    }
    LATENTD_RETURN_IF_ERROR(assign(stmt.target, item));
    LATENTD_ASSIGN_OR_RETURN(const Flow flow, run_block(stmt.body));
    if (flow == Flow::kBreak) break;
    completed = completed || flow == Flow::kNext;
  }
  if (!completed) return run_block(stmt.otherwise);
  return Flow::kNext;
}

Status Evaluator::assign(const Target& target, const Value& value) {
  if (target.symbol < 0) {
    LATENTD_ASSIGN_OR_RETURN(const ItemsPtr parts, iterate(runtime_, value));
    if (parts->size() != target.items.size()) {
      return template_error(
          fmt::format("expected {} values to unpack, got {}", target.items.size(), parts->size()));
    }
    for (std::size_t i = 0; i < parts->size(); ++i) {
      LATENTD_RETURN_IF_ERROR(assign(target.items[i], (*parts)[i]));
    }
    return ok_status();
  }
  if (target.attribute.empty()) {
    scope_->set(target.symbol, value);
    return ok_status();
  }
  const Value object = look_up(target.symbol);
  if (!object.is(Kind::kNamespace)) {
    return template_error("cannot assign to an attribute of what is no namespace");
  }
  Namespace& space = object.object();
  if (Value* old = space.find(target.attribute); old != nullptr) {
    *old = value;
  } else {
    LATENTD_RETURN_IF_ERROR(runtime_.budget.make_items(space.attributes.size() + 1));
    space.attributes.emplace_back(target.attribute, value);
  }
  return ok_status();
}

Result<Evaluator::Flow> Evaluator::run_node(const SetStmt& stmt) {
  LATENTD_ASSIGN_OR_RETURN(const Value value, eval(*stmt.value));
  LATENTD_RETURN_IF_ERROR(assign(stmt.target, value));
  return Flow::kNext;
}

Result<Evaluator::Flow> Evaluator::capture(const Block& block, Value& out) {
  const ScopeGuard scope(*this);
  std::string text;
  std::string* const outer = std::exchange(out_, &text);
  Result<Flow> flow = run_block(block);
  out_ = outer;
  if (flow.ok()) out = Value::valid_string(std::move(text));
  return flow;
}

Result<Evaluator::Flow> Evaluator::run_node(const SetBlockStmt& stmt) {
  Value value;
  LATENTD_ASSIGN_OR_RETURN(const Flow flow, capture(stmt.body, value));
  if (flow != Flow::kNext) return flow;
  if (stmt.filter != nullptr) {
    const Value* const outer = std::exchange(block_input_, &value);
    Result<Value> filtered = eval(*stmt.filter);
    block_input_ = outer;
    LATENTD_ASSIGN_OR_RETURN(value, std::move(filtered));
  }
  LATENTD_RETURN_IF_ERROR(assign(stmt.target, value));
  return Flow::kNext;
}

Result<Evaluator::Flow> Evaluator::run_node(const FilterStmt& stmt) {
  Value value;
  LATENTD_ASSIGN_OR_RETURN(const Flow flow, capture(stmt.body, value));
  if (flow != Flow::kNext) return flow;
  const Value* const outer = std::exchange(block_input_, &value);
  Result<Value> filtered = eval(*stmt.filter);
  block_input_ = outer;
  LATENTD_RETURN_IF_ERROR(filtered.status());
  if (!filtered->is_string()) return template_error("the filter of a block must give a string");
  LATENTD_RETURN_IF_ERROR(write(*filtered));
  return Flow::kNext;
}

Result<Evaluator::Flow> Evaluator::run_node(const MacroStmt& stmt) {
  LATENTD_ASSIGN_OR_RETURN(const Macro* macro, runtime_.new_macro(stmt.macro.get(), scope_));
  scope_->set(stmt.macro->symbol, Value::of(macro));
  return Flow::kNext;
}

Result<Evaluator::Flow> Evaluator::run_node(const CallStmt& stmt) {
  LATENTD_ASSIGN_OR_RETURN(const Macro* caller, runtime_.new_macro(stmt.caller.get(), scope_));
  const auto& expr = std::get<CallExpr>(stmt.call->node);
  LATENTD_ASSIGN_OR_RETURN(const Value callee, eval(*expr.callee));
  LATENTD_ASSIGN_OR_RETURN(Arguments arguments, eval_arguments(expr.arguments));
  arguments.keywords.emplace_back("caller", Value::of(caller));
  LATENTD_ASSIGN_OR_RETURN(const Value result, call(callee, arguments));
  LATENTD_RETURN_IF_ERROR(write(result));
  return Flow::kNext;
}

Result<Evaluator::Flow> Evaluator::run_node(const WithStmt& stmt) {
  std::vector<Value> values;
  for (const auto& [target, expr] : stmt.names) {
    LATENTD_ASSIGN_OR_RETURN(Value value, eval(*expr));
    values.push_back(std::move(value));
  }
  const ScopeGuard scope(*this);
  for (std::size_t i = 0; i < values.size(); ++i) {
    LATENTD_RETURN_IF_ERROR(assign(stmt.names[i].first, values[i]));
  }
  return run_block(stmt.body);
}

Result<Evaluator::Flow> Evaluator::run_node(const GenerationStmt& stmt) {
  const ScopeGuard scope(*this);
  return run_block(stmt.body);
}

}  // namespace latentd::jinja

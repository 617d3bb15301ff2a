#include <spdlog/fmt/fmt.h>

#include <algorithm>

#include "server/text/template/builtins.h"
#include "server/text/template/evaluator.h"
#include "server/text/template/python_text.h"

namespace latentd::jinja {

Value Evaluator::look_up(int symbol) const {
  for (const Scope* scope = scope_; scope != nullptr; scope = scope->parent()) {
    if (const Value* found = scope->find(symbol); found != nullptr) return *found;
  }
  const std::string& name = tree_.symbols[static_cast<std::size_t>(symbol)];
  if (const Value* found = context_.find(name); found != nullptr) return *found;
  if (const Function* function = find_function(name); function != nullptr) {
    return Value::of(function);
  }
  return Value::undefined(fmt::format("'{}' is undefined", name));
}

Result<Value> Evaluator::eval(const Expr& expr) {
  const DepthGuard guard(runtime_);
  if (!guard.status().ok()) return locate(guard.status(), expr.line);
  Status spent = runtime_.budget.spend(1);
  if (!spent.ok()) return locate(std::move(spent), expr.line);
  Result<Value> value = std::visit([this](const auto& node) { return eval_node(node); }, expr.node);
  if (!value.ok()) return locate(value.status(), expr.line);
  return value;
}

Result<Value> Evaluator::eval_or_none(const ExprPtr& expr) {
  return expr == nullptr ? Result<Value>(Value::none()) : eval(*expr);
}

Result<Value> Evaluator::eval_node(const NameExpr& expr) { return look_up(expr.symbol); }

Result<Value> Evaluator::eval_node(const UnaryExpr& expr) {
  LATENTD_ASSIGN_OR_RETURN(const Value operand, eval(*expr.operand));
  return unary(expr.op, operand);
}

Result<Value> Evaluator::eval_node(const BinaryExpr& expr) {
  LATENTD_ASSIGN_OR_RETURN(const Value left, eval(*expr.left));
  LATENTD_ASSIGN_OR_RETURN(const Value right, eval(*expr.right));
  return binary(runtime_, expr.op, left, right);
}

Result<Value> Evaluator::eval_node(const LogicalExpr& expr) {
  LATENTD_ASSIGN_OR_RETURN(Value left, eval(*expr.left));
  if (truthy(left) != expr.is_and) return left;
  return eval(*expr.right);
}

Result<Value> Evaluator::eval_node(const ConcatExpr& expr) {
  std::string out;
  for (const ExprPtr& part : expr.parts) {
    LATENTD_ASSIGN_OR_RETURN(const Value value, eval(*part));
    LATENTD_RETURN_IF_ERROR(append_text(runtime_, value, out));
  }
  return Value::valid_string(std::move(out));
}

Result<Value> Evaluator::eval_node(const CompareExpr& expr) {
  LATENTD_ASSIGN_OR_RETURN(Value left, eval(*expr.first));
  for (const auto& [op, operand] : expr.rest) {
    LATENTD_ASSIGN_OR_RETURN(Value right, eval(*operand));
    LATENTD_ASSIGN_OR_RETURN(const bool holds, compare(runtime_, op, left, right));
    if (!holds) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

Result<Value> Evaluator::eval_node(const ConditionalExpr& expr) {
  LATENTD_ASSIGN_OR_RETURN(const Value condition, eval(*expr.condition));
  if (truthy(condition)) return eval(*expr.yes);
  if (expr.no != nullptr) return eval(*expr.no);
  return Value::undefined("an inline if without else was false");
}

Result<Value> Evaluator::eval_node(const AttributeExpr& expr) {
  LATENTD_ASSIGN_OR_RETURN(const Value object, eval(*expr.object));
  return get_attribute(runtime_, object, expr.name);
}

Result<Value> Evaluator::eval_node(const IndexExpr& expr) {
  LATENTD_ASSIGN_OR_RETURN(const Value object, eval(*expr.object));
  LATENTD_ASSIGN_OR_RETURN(const Value index, eval(*expr.index));
  return get_item(runtime_, object, index);
}

Result<Value> Evaluator::eval_node(const SliceExpr& expr) {
  LATENTD_ASSIGN_OR_RETURN(const Value object, eval(*expr.object));
  LATENTD_ASSIGN_OR_RETURN(const Value start, eval_or_none(expr.start));
  LATENTD_ASSIGN_OR_RETURN(const Value stop, eval_or_none(expr.stop));
  LATENTD_ASSIGN_OR_RETURN(const Value step, eval_or_none(expr.step));
  return get_slice(runtime_, object, start, stop, step);
}

Result<Value> Evaluator::eval_node(const SequenceExpr& expr) {
  std::vector<Value> items;
  items.reserve(expr.items.size());
  for (const ExprPtr& item : expr.items) {
    LATENTD_ASSIGN_OR_RETURN(Value value, eval(*item));
    items.push_back(std::move(value));
  }
  return runtime_.list(std::move(items), expr.form);
}

Result<Value> Evaluator::eval_node(const MapExpr& expr) {
  MapBuilder map;
  for (const auto& [key_expr, value_expr] : expr.entries) {
    LATENTD_ASSIGN_OR_RETURN(const Value key, eval(*key_expr));
    LATENTD_ASSIGN_OR_RETURN(Value value, eval(*value_expr));
    if (key.is(Kind::kMap) || key.is(Kind::kSequence)) {
      return template_error(fmt::format("a {} cannot be a key", type_name(key)));
    }
    map.set(key, std::move(value));
  }
  return runtime_.map(std::move(map));
}

Result<Value> Evaluator::eval_node(const FilterExpr& expr) {
  Value input;
  if (expr.input != nullptr) {
    LATENTD_ASSIGN_OR_RETURN(input, eval(*expr.input));
  } else {
    input = *block_input_;
  }
  if (expr.function == nullptr) {
    return template_error(fmt::format("there is no filter '{}'", expr.name));
  }
  LATENTD_ASSIGN_OR_RETURN(const Arguments arguments, eval_arguments(expr.arguments));
  return expr.function(runtime_, input, arguments);
}

Result<Value> Evaluator::eval_node(const TestExpr& expr) {
  LATENTD_ASSIGN_OR_RETURN(const Value input, eval(*expr.input));
  if (expr.function == nullptr) {
    return template_error(fmt::format("there is no test '{}'", expr.name));
  }
  LATENTD_ASSIGN_OR_RETURN(const Arguments arguments, eval_arguments(expr.arguments));
  LATENTD_ASSIGN_OR_RETURN(const bool passes, expr.function(runtime_, input, arguments));
  return Value::boolean(passes);
}

Result<Value> Evaluator::eval_node(const CallExpr& expr) {
  const auto* attribute = std::get_if<AttributeExpr>(&expr.callee->node);
  if (attribute == nullptr) {
    LATENTD_ASSIGN_OR_RETURN(const Value callee, eval(*expr.callee));
    LATENTD_ASSIGN_OR_RETURN(const Arguments arguments, eval_arguments(expr.arguments));
    return call(callee, arguments);
  }
  // object.method(...) without making the method a value first.
  LATENTD_ASSIGN_OR_RETURN(const Value object, eval(*attribute->object));
  const Method* method = find_method(object, attribute->name);
  Value callee;
  if (method == nullptr && !(object.is(Kind::kLoop) && attribute->name == "cycle")) {
    LATENTD_ASSIGN_OR_RETURN(callee, get_attribute(runtime_, object, attribute->name));
  }
  LATENTD_ASSIGN_OR_RETURN(const Arguments arguments, eval_arguments(expr.arguments));
  if (method != nullptr) return method->call(runtime_, object, arguments);
  if (!object.is(Kind::kLoop) || attribute->name != "cycle") return call(callee, arguments);
  if (arguments.positional.empty()) return template_error("loop.cycle() needs items");
  return arguments.positional[object.loop()->index % arguments.positional.size()];
}

Result<Arguments> Evaluator::eval_arguments(const CallArguments& given) {
  Arguments arguments;
  arguments.positional.reserve(given.positional.size());
  for (const ExprPtr& expr : given.positional) {
    LATENTD_ASSIGN_OR_RETURN(Value value, eval(*expr));
    arguments.positional.push_back(std::move(value));
  }
  for (const auto& [name, expr] : given.keywords) {
    LATENTD_ASSIGN_OR_RETURN(Value value, eval(*expr));
    arguments.keywords.emplace_back(name, std::move(value));
  }
  if (given.star != nullptr) {
    LATENTD_ASSIGN_OR_RETURN(const Value more, eval(*given.star));
    LATENTD_ASSIGN_OR_RETURN(const ItemsPtr items, iterate(runtime_, more));
    LATENTD_RETURN_IF_ERROR(runtime_.budget.make_items(items->size()));
    arguments.positional.insert(arguments.positional.end(), items->begin(), items->end());
  }
  if (given.double_star != nullptr) {
    LATENTD_ASSIGN_OR_RETURN(const Value more, eval(*given.double_star));
    if (!more.is(Kind::kMap)) return template_error("what follows ** must be a mapping");
    LATENTD_RETURN_IF_ERROR(runtime_.budget.make_items(more.map().size()));
    for (const auto& [key, value] : more.map().entries()) {
      if (!key.is_string()) return template_error("keywords must be strings");
      arguments.keywords.emplace_back(std::string(key.bytes()), value);
    }
  }
  return arguments;
}

Result<Value> Evaluator::call(const Value& callee, const Arguments& arguments) {
  switch (callee.kind()) {
    case Kind::kFunction:
      return callee.function().call(runtime_, arguments);
    case Kind::kMethod:
      return callee.method().method->call(runtime_, callee.method().receiver, arguments);
    case Kind::kMacro:
      return call_macro(callee.macro(), arguments);
    case Kind::kUndefined:
      return template_error(std::string(callee.why_undefined()));
    default:
      return template_error(fmt::format("'{}' object is not callable", type_name(callee)));
  }
}

Result<Value> Evaluator::call_macro(const Macro& macro, const Arguments& arguments) {
  ScopeGuard scope(*this, macro.closure);
  LATENTD_RETURN_IF_ERROR(bind_macro(*macro.node, arguments, scope.scope()));
  std::string text;
  std::string* const outer = std::exchange(out_, &text);
  const Result<Flow> flow = run_block(macro.node->body);
  out_ = outer;
  LATENTD_RETURN_IF_ERROR(flow.status());
  return Value::valid_string(std::move(text));
}

Status Evaluator::bind_macro(const MacroNode& node, const Arguments& arguments, Scope& scope) {
  std::vector<bool> used_keywords(arguments.keywords.size(), false);
  for (std::size_t i = 0; i < node.arguments.size(); ++i) {
    const MacroNode::Argument& argument = node.arguments[i];
    if (i < arguments.positional.size()) {
      scope.set(argument.symbol, arguments.positional[i]);
      continue;
    }
    std::size_t keyword = 0;
    while (keyword < arguments.keywords.size() &&
           arguments.keywords[keyword].first != argument.name) {
      ++keyword;
    }
    if (keyword < arguments.keywords.size()) {
      used_keywords[keyword] = true;
      scope.set(argument.symbol, arguments.keywords[keyword].second);
    } else if (argument.initial != nullptr) {
      LATENTD_ASSIGN_OR_RETURN(Value initial, eval(*argument.initial));
      scope.set(argument.symbol, std::move(initial));
    } else {
      scope.set(argument.symbol,
                Value::undefined(fmt::format("parameter '{}' was not provided", argument.name)));
    }
  }
  return bind_special(node, arguments, used_keywords, scope);
}

Status Evaluator::bind_special(const MacroNode& node, const Arguments& arguments,
                               const std::vector<bool>& used_keywords, Scope& scope) {
  MapBuilder more;
  Value caller = Value::undefined("there is no caller");
  for (std::size_t i = 0; i < used_keywords.size(); ++i) {
    if (used_keywords[i]) continue;
    const auto& [name, value] = arguments.keywords[i];
    if (node.takes_caller && name == "caller") {
      caller = value;
    } else if (node.takes_more_keywords) {
      more.set(name, value);
    } else {
      return template_error(fmt::format("macro '{}' takes no argument '{}'", node.name, name));
    }
  }
  if (node.takes_caller) scope.set(caller_symbol_, std::move(caller));
  if (node.takes_more_keywords) {
    LATENTD_ASSIGN_OR_RETURN(Value map, runtime_.map(std::move(more)));
    scope.set(kwargs_symbol_, std::move(map));
  }
  if (node.takes_more_positional) {
    const std::size_t taken = std::min(node.arguments.size(), arguments.positional.size());
    std::vector<Value> rest(arguments.positional.begin() + static_cast<std::ptrdiff_t>(taken),
                            arguments.positional.end());
    LATENTD_ASSIGN_OR_RETURN(Value tuple, runtime_.list(std::move(rest), Sequence::Form::kTuple));
    scope.set(varargs_symbol_, std::move(tuple));
  } else if (arguments.positional.size() > node.arguments.size()) {
    return template_error(fmt::format("macro '{}' takes at most {} arguments, got {}", node.name,
                                      node.arguments.size(), arguments.positional.size()));
  }
  return ok_status();
}

}  // namespace latentd::jinja

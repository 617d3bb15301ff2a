#include "server/text/template/runtime.h"

#include <spdlog/fmt/fmt.h>

namespace latentd::jinja {

Value* Namespace::find(std::string_view name) {
  for (auto& [key, value] : attributes) {
    if (key == name) return &value;
  }
  return nullptr;
}

const Value* Scope::find(int symbol) const {
  for (const auto& [name, value] : names_) {
    if (name == symbol) return &value;
  }
  return nullptr;
}

void Scope::set(int symbol, Value value) {
  for (auto& [name, old] : names_) {
    if (name == symbol) {
      old = std::move(value);
      return;
    }
  }
  names_.emplace_back(symbol, std::move(value));
}

void Scope::capture() {
  for (Scope* scope = this; scope != nullptr && !scope->captured_; scope = scope->parent_) {
    scope->captured_ = true;
  }
}

Status Runtime::enter() {
  if (++depth_ <= budget.limits().max_depth) return ok_status();
  return {StatusCode::kResourceExhausted,
          fmt::format("the template exceeds the limit of {} evaluations inside one another",
                      budget.limits().max_depth)};
}

Result<Value> Runtime::string(std::string valid_utf8) {
  LATENTD_RETURN_IF_ERROR(budget.make_string(valid_utf8.size()));
  return Value::valid_string(std::move(valid_utf8));
}

Result<Value> Runtime::list(std::vector<Value> items, Sequence::Form form) {
  LATENTD_RETURN_IF_ERROR(budget.make_items(items.size()));
  SequencePtr sequence = make_sequence(std::move(items), form);
  LATENTD_RETURN_IF_ERROR(budget.check_value_depth(sequence->depth));
  return Value::of(std::move(sequence));
}

Result<Value> Runtime::map(MapBuilder builder) {
  LATENTD_RETURN_IF_ERROR(budget.make_items(builder.size()));
  Value made = std::move(builder).build();
  LATENTD_RETURN_IF_ERROR(budget.check_value_depth(made.depth()));
  return made;
}

Result<Value> Runtime::iterator(std::vector<Value> items) {
  LATENTD_RETURN_IF_ERROR(budget.make_items(items.size()));
  auto cursor = std::make_shared<Cursor>();
  cursor->depth = depth_around(items);
  cursor->items = std::move(items);
  LATENTD_RETURN_IF_ERROR(budget.check_value_depth(cursor->depth));
  return Value::of(std::move(cursor));
}

Result<Value> Runtime::bound_method(const Value& receiver, const Method* method) {
  LATENTD_RETURN_IF_ERROR(budget.check_value_depth(receiver.depth() + 1));
  return Value::of(std::make_shared<const BoundMethod>(BoundMethod{receiver, method}));
}

// Objects that live until the render ends cost more steps than others, since nothing frees them.
Result<Namespace*> Runtime::new_namespace() {
  LATENTD_RETURN_IF_ERROR(budget.spend(8));
  return &namespaces_.emplace_back();
}

Result<const Macro*> Runtime::new_macro(const MacroNode* node, Scope* closure) {
  LATENTD_RETURN_IF_ERROR(budget.spend(8));
  closure->capture();
  return &macros_.emplace_back(Macro{node, closure});
}

Status template_error(std::string message) {
  return {StatusCode::kInvalidArgument, std::move(message)};
}

Result<std::vector<std::optional<Value>>> bind(std::string_view function,
                                               const Arguments& arguments,
                                               std::initializer_list<Parameter> parameters) {
  std::vector<std::optional<Value>> bound(parameters.size());
  if (arguments.positional.size() > parameters.size()) {
    return template_error(fmt::format("{} takes at most {} arguments, got {}", function,
                                      parameters.size(), arguments.positional.size()));
  }
  for (std::size_t i = 0; i < arguments.positional.size(); ++i) bound[i] = arguments.positional[i];
  for (const auto& [name, value] : arguments.keywords) {
    std::size_t i = 0;
    while (i < parameters.size() && parameters.begin()[i].name != name) ++i;
    if (i == parameters.size()) {
      return template_error(fmt::format("{} has no argument '{}'", function, name));
    }
    if (bound[i].has_value()) {
      return template_error(fmt::format("{} got argument '{}' twice", function, name));
    }
    bound[i] = value;
  }
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (parameters.begin()[i].required && !bound[i].has_value()) {
      return template_error(
          fmt::format("{} needs the argument '{}'", function, parameters.begin()[i].name));
    }
  }
  return bound;
}

}  // namespace latentd::jinja

// What lives as long as one render: the budget, the objects that templates can change, and how
// built-in filters, tests, methods and functions are called.
//
// Contract: one thread. Namespaces, macros and the scopes that macros captured are owned here and
// freed together, so that the cycles which templates can tie do not leak. Built-ins check their own
// arguments and spend from the budget in proportion to what they read and make.
#pragma once

#include <ctime>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "server/text/template/limits.h"
#include "server/text/template/value.h"

namespace latentd::jinja {

struct MacroNode;
class Runtime;
class Scope;

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keywords;

  bool empty() const { return positional.empty() && keywords.empty(); }
};

using FilterFunction = Result<Value> (*)(Runtime&, const Value& input, const Arguments&);
using TestFunction = Result<bool> (*)(Runtime&, const Value& input, const Arguments&);

struct Namespace {
  std::vector<std::pair<std::string, Value>> attributes;

  Value* find(std::string_view name);
};

struct Macro {
  const MacroNode* node;
  Scope* closure;
};

// A global function such as range.
struct Function {
  std::string_view name;
  Result<Value> (*call)(Runtime&, const Arguments&);
};

struct Method {
  std::string_view name;
  FilterFunction call;  // the input is the receiver
};

struct BoundMethod {
  Value receiver;
  const Method* method;
};

// `loop` of one for statement.
struct LoopState {
  std::shared_ptr<const std::vector<Value>> items;
  std::size_t index = 0;  // from 0
  int depth = 1;          // as Value::depth
};

// Names of one block, with the block around it.
class Scope {
 public:
  explicit Scope(Scope* parent) : parent_(parent) {}

  Scope* parent() const { return parent_; }
  // Null when this block does not set `symbol`.
  const Value* find(int symbol) const;
  void set(int symbol, Value value);
  // Keeps this scope and all around it alive for macros that refer to them.
  void capture();
  bool captured() const { return captured_; }
  void clear() { names_.clear(); }

 private:
  Scope* parent_;
  std::vector<std::pair<int, Value>> names_;
  bool captured_ = false;
};

class Runtime {
 public:
  Runtime(const TemplateLimits& limits, const std::optional<std::tm>& now)
      : budget(limits), now_(now) {}

  Budget budget;

  // What strftime_now formats.
  const std::optional<std::tm>& now() const { return now_; }

  // Makers of values that check the limits.
  Result<Value> string(std::string valid_utf8);
  Result<Value> list(std::vector<Value> items, Sequence::Form form = Sequence::Form::kList);
  Result<Value> map(MapBuilder builder);
  Result<Value> iterator(std::vector<Value> items);
  Result<Value> bound_method(const Value& receiver, const Method* method);
  Result<Namespace*> new_namespace();
  Result<const Macro*> new_macro(const MacroNode* node, Scope* closure);
  void keep(std::unique_ptr<Scope> scope) { scopes_.push_back(std::move(scope)); }

  // Evaluations inside one another, of which the stack bears so many.
  Status enter();
  void leave() { --depth_; }

  // raise_exception was called: the error is the template's own words, told without a line.
  bool raised = false;

 private:
  const std::optional<std::tm> now_;
  int depth_ = 0;
  std::deque<Namespace> namespaces_;
  std::deque<Macro> macros_;
  std::vector<std::unique_ptr<Scope>> scopes_;
};

// Calls leave() at the end of the block that called enter().
class DepthGuard {
 public:
  explicit DepthGuard(Runtime& runtime) : runtime_(runtime), entered_(runtime.enter()) {}
  ~DepthGuard() { runtime_.leave(); }
  DepthGuard(const DepthGuard&) = delete;
  DepthGuard& operator=(const DepthGuard&) = delete;

  const Status& status() const { return entered_; }

 private:
  Runtime& runtime_;
  const Status entered_;
};

// kInvalidArgument: what the template, or the data it met, did wrong.
Status template_error(std::string message);

// One parameter of a built-in. Unset ones are left undefined unless `required`.
struct Parameter {
  std::string_view name;
  bool required = false;
};

// Values of `parameters` in their order, given by place or by name, as Python binds them.
Result<std::vector<std::optional<Value>>> bind(std::string_view function,
                                               const Arguments& arguments,
                                               std::initializer_list<Parameter> parameters);

}  // namespace latentd::jinja

// The syntax tree of a template.
//
// Contract: plain data, immutable once parsed, shared by all renders. `depth` of an expression
// counts those inside one another; the parser bounds it, so walking and destroying recurse safely.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "server/text/template/runtime.h"
#include "server/text/template/value.h"

namespace latentd::jinja {

struct Expr;
struct Stmt;
using ExprPtr = std::unique_ptr<Expr>;
using Block = std::vector<Stmt>;

enum class UnaryOp : std::uint8_t { kNot, kMinus, kPlus };
enum class BinaryOp : std::uint8_t { kAdd, kSub, kMul, kDiv, kFloorDiv, kMod, kPow };
enum class CompareOp : std::uint8_t { kEq, kNe, kLt, kLe, kGt, kGe, kIn, kNotIn };

struct CallArguments {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> keywords;
  ExprPtr star;         // *sequence
  ExprPtr double_star;  // **map
};

struct LiteralExpr {
  Value value;
};
struct NameExpr {
  int symbol;
};
struct UnaryExpr {
  UnaryOp op;
  ExprPtr operand;
};
struct BinaryExpr {
  BinaryOp op;
  ExprPtr left, right;
};
struct LogicalExpr {
  bool is_and;
  ExprPtr left, right;
};
struct ConcatExpr {
  std::vector<ExprPtr> parts;
};
struct CompareExpr {
  ExprPtr first;
  std::vector<std::pair<CompareOp, ExprPtr>> rest;
};
struct ConditionalExpr {
  ExprPtr condition, yes, no;  // `no` may be null
};
struct CallExpr {
  ExprPtr callee;
  CallArguments arguments;
};
struct FilterExpr {
  ExprPtr input;  // null: the body of the block that the filter belongs to
  std::string name;
  FilterFunction function;  // null: there is no such filter, an error once evaluated
  CallArguments arguments;
};
struct TestExpr {
  ExprPtr input;
  std::string name;
  TestFunction function;  // null as above
  CallArguments arguments;
};
struct AttributeExpr {
  ExprPtr object;
  std::string name;
};
struct IndexExpr {
  ExprPtr object, index;
};
struct SliceExpr {
  ExprPtr object, start, stop, step;  // all but `object` may be null
};
struct SequenceExpr {
  Sequence::Form form;
  std::vector<ExprPtr> items;
};
struct MapExpr {
  std::vector<std::pair<ExprPtr, ExprPtr>> entries;
};

struct Expr {
  int line = 0;
  int depth = 1;
  std::variant<LiteralExpr, NameExpr, UnaryExpr, BinaryExpr, LogicalExpr, ConcatExpr, CompareExpr,
               ConditionalExpr, CallExpr, FilterExpr, TestExpr, AttributeExpr, IndexExpr, SliceExpr,
               SequenceExpr, MapExpr>
      node;
};

// What set, for and with assign to: a name, an attribute of a namespace, or a tuple of those.
struct Target {
  int symbol = -1;  // -1: a tuple
  std::string attribute;
  std::vector<Target> items;
};

struct TextStmt {
  std::string text;
};
struct PrintStmt {
  ExprPtr value;
};
struct IfStmt {
  std::vector<std::pair<ExprPtr, Block>> branches;
  Block otherwise;
};
struct ForStmt {
  Target target;
  ExprPtr items;
  ExprPtr condition;       // may be null
  bool uses_loop = false;  // the body names `loop`
  Block body, otherwise;
};
struct SetStmt {
  Target target;
  ExprPtr value;
};
struct SetBlockStmt {
  Target target;
  ExprPtr filter;  // may be null
  Block body;
};
struct MacroNode {
  struct Argument {
    int symbol;
    std::string name;
    ExprPtr initial;  // null: required
  };
  std::string name;
  int symbol = -1;
  std::vector<Argument> arguments;
  Block body;
  bool takes_more_positional = false;  // the body names `varargs`
  bool takes_more_keywords = false;    // ... `kwargs`
  bool takes_caller = false;           // ... `caller`
};
struct MacroStmt {
  std::unique_ptr<MacroNode> macro;
};
struct CallStmt {
  ExprPtr call;
  std::unique_ptr<MacroNode> caller;
};
struct FilterStmt {
  ExprPtr filter;
  Block body;
};
struct WithStmt {
  std::vector<std::pair<Target, ExprPtr>> names;
  Block body;
};
// {% generation %}, by which training code marks the assistant's text: rendered as it is.
struct GenerationStmt {
  Block body;
};
struct BreakStmt {};
struct ContinueStmt {};

struct Stmt {
  int line = 0;
  std::variant<TextStmt, PrintStmt, IfStmt, ForStmt, SetStmt, SetBlockStmt, MacroStmt, CallStmt,
               FilterStmt, WithStmt, GenerationStmt, BreakStmt, ContinueStmt>
      node;
};

struct Tree {
  std::vector<std::string> symbols;  // names, by their number
  Block body;
};

}  // namespace latentd::jinja

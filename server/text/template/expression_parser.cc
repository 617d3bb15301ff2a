#include "server/text/template/expression_parser.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>

namespace latentd::jinja {

namespace {

std::string describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::kText:
    case TokenKind::kPrintBegin:
    case TokenKind::kTagBegin:
      return "text";
    case TokenKind::kPrintEnd:
      return "'}}'";
    case TokenKind::kTagEnd:
      return "'%}'";
    case TokenKind::kEnd:
      return "the end of the template";
    case TokenKind::kString:
      return "a string";
    default:
      return fmt::format("'{}'", token.text);
  }
}

struct NamedCompare {
  std::string_view op;
  CompareOp compare;
};
constexpr std::array<NamedCompare, 6> kComparisons = {{{"==", CompareOp::kEq},
                                                       {"!=", CompareOp::kNe},
                                                       {"<", CompareOp::kLt},
                                                       {"<=", CompareOp::kLe},
                                                       {">", CompareOp::kGt},
                                                       {">=", CompareOp::kGe}}};

}  // namespace

bool ExpressionParser::skip_op(std::string_view op) {
  if (!current().is_op(op)) return false;
  next();
  return true;
}

bool ExpressionParser::skip_name(std::string_view name) {
  if (!current().is_name(name)) return false;
  next();
  return true;
}

Status ExpressionParser::expect_op(std::string_view op) {
  if (skip_op(op)) return ok_status();
  return unexpected(fmt::format("'{}'", op));
}

Status ExpressionParser::expect(TokenKind kind, std::string_view what) {
  if (current().kind != kind) return unexpected(what);
  next();
  return ok_status();
}

Result<std::string> ExpressionParser::expect_name() {
  if (current().kind != TokenKind::kName) return unexpected("a name");
  std::string name = current().text;
  next();
  return name;
}

Result<std::string> ExpressionParser::expect_dotted_name() {
  LATENTD_ASSIGN_OR_RETURN(std::string name, expect_name());
  while (skip_op(".")) {
    LATENTD_ASSIGN_OR_RETURN(const std::string part, expect_name());
    name += "." + part;
  }
  return name;
}

Status ExpressionParser::unexpected(std::string_view wanted) const {
  return syntax_error(line(), fmt::format("expected {}, found {}", wanted, describe(current())));
}

int ExpressionParser::symbol(const std::string& name) {
  const auto [found, added] = symbol_numbers_.emplace(name, static_cast<int>(symbols_.size()));
  if (added) symbols_.push_back(name);
  return found->second;
}

Status ExpressionParser::check_nesting(int depth) const {
  if (depth <= limits_.max_nesting) return ok_status();
  return {StatusCode::kResourceExhausted,
          fmt::format("line {}: the template exceeds the limit of {} expressions and blocks inside "
                      "one another",
                      line(), limits_.max_nesting)};
}

Result<ExprPtr> ExpressionParser::make(int line, decltype(Expr::node) node, int deepest_child) {
  LATENTD_RETURN_IF_ERROR(check_nesting(deepest_child + 1));
  auto expr = std::make_unique<Expr>();
  expr->line = line;
  expr->depth = deepest_child + 1;
  expr->node = std::move(node);
  return expr;
}

int ExpressionParser::deepest(std::initializer_list<const ExprPtr*> children) {
  int depth = 0;
  for (const ExprPtr* child : children) {
    if (*child != nullptr) depth = std::max(depth, (*child)->depth);
  }
  return depth;
}

int ExpressionParser::deepest(const CallArguments& arguments) {
  int depth = deepest({&arguments.star, &arguments.double_star});
  for (const ExprPtr& argument : arguments.positional) depth = std::max(depth, argument->depth);
  for (const auto& [name, argument] : arguments.keywords) depth = std::max(depth, argument->depth);
  return depth;
}

bool ExpressionParser::at_list_end() const {
  return current().kind == TokenKind::kPrintEnd || current().kind == TokenKind::kTagEnd ||
         current().is_op(")");
}

Result<ExprPtr> ExpressionParser::expression(Ternary ternary) {
  return ternary == Ternary::kAllowed ? conditional() : logical_or();
}

Result<ExprPtr> ExpressionParser::expression_list(Ternary ternary) {
  const int start = line();
  std::vector<ExprPtr> items;
  int depth = 0;
  bool is_tuple = false;
  while (!at_list_end()) {
    LATENTD_ASSIGN_OR_RETURN(ExprPtr item, expression(ternary));
    depth = std::max(depth, item->depth);
    items.push_back(std::move(item));
    if (!skip_op(",")) break;
    is_tuple = true;
  }
  if (items.empty()) return unexpected("an expression");
  if (!is_tuple) return std::move(items.front());
  return make(start, SequenceExpr{Sequence::Form::kTuple, std::move(items)}, depth);
}

Result<ExprPtr> ExpressionParser::conditional() {
  const Nesting nesting(*this);
  LATENTD_RETURN_IF_ERROR(check_nesting(nesting_));
  int start = line();
  LATENTD_ASSIGN_OR_RETURN(ExprPtr yes, logical_or());
  while (skip_name("if")) {
    LATENTD_ASSIGN_OR_RETURN(ExprPtr condition, logical_or());
    ExprPtr no;
    if (skip_name("else")) {
      LATENTD_ASSIGN_OR_RETURN(no, conditional());
    }
    const int depth = deepest({&condition, &yes, &no});
    LATENTD_ASSIGN_OR_RETURN(
        yes,
        make(start, ConditionalExpr{std::move(condition), std::move(yes), std::move(no)}, depth));
    start = line();
  }
  return yes;
}

Result<ExprPtr> ExpressionParser::logical_or() {
  LATENTD_ASSIGN_OR_RETURN(ExprPtr left, logical_and());
  while (current().is_name("or")) {
    const int at = line();
    next();
    LATENTD_ASSIGN_OR_RETURN(ExprPtr right, logical_and());
    const int depth = deepest({&left, &right});
    LATENTD_ASSIGN_OR_RETURN(
        left, make(at, LogicalExpr{false, std::move(left), std::move(right)}, depth));
  }
  return left;
}

Result<ExprPtr> ExpressionParser::logical_and() {
  LATENTD_ASSIGN_OR_RETURN(ExprPtr left, logical_not());
  while (current().is_name("and")) {
    const int at = line();
    next();
    LATENTD_ASSIGN_OR_RETURN(ExprPtr right, logical_not());
    const int depth = deepest({&left, &right});
    LATENTD_ASSIGN_OR_RETURN(left,
                             make(at, LogicalExpr{true, std::move(left), std::move(right)}, depth));
  }
  return left;
}

Result<ExprPtr> ExpressionParser::logical_not() {
  if (!current().is_name("not")) return comparison();
  const Nesting nesting(*this);
  LATENTD_RETURN_IF_ERROR(check_nesting(nesting_));
  const int at = line();
  next();
  LATENTD_ASSIGN_OR_RETURN(ExprPtr operand, logical_not());
  const int depth = operand->depth;
  return make(at, UnaryExpr{UnaryOp::kNot, std::move(operand)}, depth);
}

Result<ExprPtr> ExpressionParser::comparison() {
  const int start = line();
  LATENTD_ASSIGN_OR_RETURN(ExprPtr first, sum());
  int depth = first->depth;
  std::vector<std::pair<CompareOp, ExprPtr>> rest;
  while (true) {
    CompareOp op{};
    const auto* named =
        std::find_if(kComparisons.begin(), kComparisons.end(),
                     [this](const NamedCompare& c) { return current().is_op(c.op); });
    if (named != kComparisons.end()) {
      op = named->compare;
      next();
    } else if (skip_name("in")) {
      op = CompareOp::kIn;
    } else if (current().is_name("not") && ahead().is_name("in")) {
      next();
      next();
      op = CompareOp::kNotIn;
    } else {
      break;
    }
    LATENTD_ASSIGN_OR_RETURN(ExprPtr operand, sum());
    depth = std::max(depth, operand->depth);
    rest.emplace_back(op, std::move(operand));
  }
  if (rest.empty()) return first;
  return make(start, CompareExpr{std::move(first), std::move(rest)}, depth);
}

Result<ExprPtr> ExpressionParser::sum() {
  LATENTD_ASSIGN_OR_RETURN(ExprPtr left, concatenation());
  while (current().is_op("+") || current().is_op("-")) {
    const BinaryOp op = current().is_op("+") ? BinaryOp::kAdd : BinaryOp::kSub;
    const int at = line();
    next();
    LATENTD_ASSIGN_OR_RETURN(ExprPtr right, concatenation());
    const int depth = deepest({&left, &right});
    LATENTD_ASSIGN_OR_RETURN(left,
                             make(at, BinaryExpr{op, std::move(left), std::move(right)}, depth));
  }
  return left;
}

Result<ExprPtr> ExpressionParser::concatenation() {
  const int start = line();
  LATENTD_ASSIGN_OR_RETURN(ExprPtr first, product());
  if (!current().is_op("~")) return first;
  int depth = first->depth;
  std::vector<ExprPtr> parts;
  parts.push_back(std::move(first));
  while (skip_op("~")) {
    LATENTD_ASSIGN_OR_RETURN(ExprPtr part, product());
    depth = std::max(depth, part->depth);
    parts.push_back(std::move(part));
  }
  return make(start, ConcatExpr{std::move(parts)}, depth);
}

Result<ExprPtr> ExpressionParser::product() {
  LATENTD_ASSIGN_OR_RETURN(ExprPtr left, power());
  while (true) {
    BinaryOp op{};
    if (current().is_op("*")) {
      op = BinaryOp::kMul;
    } else if (current().is_op("/")) {
      op = BinaryOp::kDiv;
    } else if (current().is_op("//")) {
      op = BinaryOp::kFloorDiv;
    } else if (current().is_op("%")) {
      op = BinaryOp::kMod;
    } else {
      return left;
    }
    const int at = line();
    next();
    LATENTD_ASSIGN_OR_RETURN(ExprPtr right, power());
    const int depth = deepest({&left, &right});
    LATENTD_ASSIGN_OR_RETURN(left,
                             make(at, BinaryExpr{op, std::move(left), std::move(right)}, depth));
  }
}

Result<ExprPtr> ExpressionParser::power() {
  LATENTD_ASSIGN_OR_RETURN(ExprPtr left, unary(true));
  while (current().is_op("**")) {
    const int at = line();
    next();
    LATENTD_ASSIGN_OR_RETURN(ExprPtr right, unary(true));
    const int depth = deepest({&left, &right});
    LATENTD_ASSIGN_OR_RETURN(
        left, make(at, BinaryExpr{BinaryOp::kPow, std::move(left), std::move(right)}, depth));
  }
  return left;
}

Result<ExprPtr> ExpressionParser::unary(bool with_filters) {
  ExprPtr node;
  if (current().is_op("-") || current().is_op("+")) {
    const Nesting nesting(*this);
    LATENTD_RETURN_IF_ERROR(check_nesting(nesting_));
    const UnaryOp op = current().is_op("-") ? UnaryOp::kMinus : UnaryOp::kPlus;
    const int at = line();
    next();
    LATENTD_ASSIGN_OR_RETURN(ExprPtr operand, unary(false));
    const int depth = operand->depth;
    LATENTD_ASSIGN_OR_RETURN(node, make(at, UnaryExpr{op, std::move(operand)}, depth));
  } else {
    LATENTD_ASSIGN_OR_RETURN(node, primary());
  }
  LATENTD_ASSIGN_OR_RETURN(node, postfix(std::move(node)));
  if (!with_filters) return node;
  return filters_and_tests(std::move(node));
}

}  // namespace latentd::jinja

// Operands of expressions: names, literals, and what follows them.
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <charconv>

#include "server/text/template/builtins.h"
#include "server/text/template/expression_parser.h"

namespace latentd::jinja {

Result<ExprPtr> ExpressionParser::primary() {
  switch (current().kind) {
    case TokenKind::kName:
      return name();
    case TokenKind::kString:
      return string();
    case TokenKind::kInteger:
    case TokenKind::kFloat:
      return number();
    default:
      break;
  }
  if (current().is_op("(")) return parenthesized();
  if (current().is_op("[")) return list();
  if (current().is_op("{")) return map();
  return unexpected("an expression");
}

Result<ExprPtr> ExpressionParser::name() {
  const int at = line();
  const std::string text = current().text;
  next();
  if (text == "true" || text == "True") return make(at, LiteralExpr{Value::boolean(true)}, 0);
  if (text == "false" || text == "False") return make(at, LiteralExpr{Value::boolean(false)}, 0);
  if (text == "none" || text == "None") return make(at, LiteralExpr{Value::none()}, 0);
  used_names.add({text == "varargs", text == "kwargs", text == "caller", text == "loop"});
  return make(at, NameExpr{symbol(text)}, 0);
}

Result<ExprPtr> ExpressionParser::string() {
  const int at = line();
  std::string text;
  while (current().kind == TokenKind::kString) {
    text += current().text;
    next();
  }
  return make(at, LiteralExpr{Value::valid_string(std::move(text))}, 0);
}

Result<ExprPtr> ExpressionParser::number() {
  const Token& token = current();
  const int at = token.line;
  const char* begin = token.text.data();
  const char* end = begin + token.text.size();
  Value value;
  if (token.kind == TokenKind::kFloat) {
    double number = 0;
    if (std::from_chars(begin, end, number).ec != std::errc()) {
      return syntax_error(at, fmt::format("{} is out of range", token.text));
    }
    value = Value::number(number);
  } else {
    std::int64_t number = 0;
    if (std::from_chars(begin, end, number).ec != std::errc()) {
      return syntax_error(at, fmt::format("{} is out of range", token.text));
    }
    value = Value::integer(number);
  }
  next();
  return make(at, LiteralExpr{std::move(value)}, 0);
}

Result<ExprPtr> ExpressionParser::parenthesized() {
  const int at = line();
  next();
  if (skip_op(")")) return make(at, SequenceExpr{Sequence::Form::kTuple, {}}, 0);
  LATENTD_ASSIGN_OR_RETURN(ExprPtr inside, expression_list());
  LATENTD_RETURN_IF_ERROR(expect_op(")"));
  return inside;
}

Result<ExprPtr> ExpressionParser::list() {
  const int at = line();
  next();
  std::vector<ExprPtr> items;
  int depth = 0;
  while (!current().is_op("]")) {
    LATENTD_ASSIGN_OR_RETURN(ExprPtr item, conditional());
    depth = std::max(depth, item->depth);
    items.push_back(std::move(item));
    if (!skip_op(",")) break;
  }
  LATENTD_RETURN_IF_ERROR(expect_op("]"));
  return make(at, SequenceExpr{Sequence::Form::kList, std::move(items)}, depth);
}

Result<ExprPtr> ExpressionParser::map() {
  const int at = line();
  next();
  std::vector<std::pair<ExprPtr, ExprPtr>> entries;
  int depth = 0;
  while (!current().is_op("}")) {
    LATENTD_ASSIGN_OR_RETURN(ExprPtr key, conditional());
    LATENTD_RETURN_IF_ERROR(expect_op(":"));
    LATENTD_ASSIGN_OR_RETURN(ExprPtr value, conditional());
    depth = std::max({depth, key->depth, value->depth});
    entries.emplace_back(std::move(key), std::move(value));
    if (!skip_op(",")) break;
  }
  LATENTD_RETURN_IF_ERROR(expect_op("}"));
  return make(at, MapExpr{std::move(entries)}, depth);
}

Result<ExprPtr> ExpressionParser::postfix(ExprPtr node) {
  while (true) {
    if (current().is_op(".")) {
      LATENTD_ASSIGN_OR_RETURN(node, attribute(std::move(node)));
    } else if (current().is_op("[")) {
      LATENTD_ASSIGN_OR_RETURN(node, subscript(std::move(node)));
    } else if (current().is_op("(")) {
      LATENTD_ASSIGN_OR_RETURN(node, call(std::move(node)));
    } else {
      return node;
    }
  }
}

Result<ExprPtr> ExpressionParser::filters_and_tests(ExprPtr node) {
  while (true) {
    if (current().is_op("|")) {
      next();
      LATENTD_ASSIGN_OR_RETURN(node, filter(std::move(node)));
    } else if (current().is_name("is")) {
      LATENTD_ASSIGN_OR_RETURN(node, test(std::move(node)));
    } else if (current().is_op("(")) {
      LATENTD_ASSIGN_OR_RETURN(node, call(std::move(node)));
    } else {
      return node;
    }
  }
}

Result<ExprPtr> ExpressionParser::attribute(ExprPtr object) {
  const int at = line();
  next();
  const int depth = object->depth;
  if (current().kind == TokenKind::kInteger) {
    LATENTD_ASSIGN_OR_RETURN(ExprPtr index, number());
    return make(at, IndexExpr{std::move(object), std::move(index)}, depth);
  }
  LATENTD_ASSIGN_OR_RETURN(std::string attribute_name, expect_name());
  return make(at, AttributeExpr{std::move(object), std::move(attribute_name)}, depth);
}

Result<ExprPtr> ExpressionParser::subscript(ExprPtr object) {
  const int at = line();
  next();
  if (skip_op(":")) return slice(std::move(object), nullptr, at);
  LATENTD_ASSIGN_OR_RETURN(ExprPtr index, conditional());
  if (skip_op(":")) return slice(std::move(object), std::move(index), at);
  LATENTD_RETURN_IF_ERROR(expect_op("]"));
  const int depth = deepest({&object, &index});
  return make(at, IndexExpr{std::move(object), std::move(index)}, depth);
}

// After the first colon of `object[start:stop:step]`.
Result<ExprPtr> ExpressionParser::slice(ExprPtr object, ExprPtr start, int line) {
  ExprPtr stop;
  ExprPtr step;
  if (!current().is_op(":") && !current().is_op("]")) {
    LATENTD_ASSIGN_OR_RETURN(stop, conditional());
  }
  if (skip_op(":") && !current().is_op("]")) {
    LATENTD_ASSIGN_OR_RETURN(step, conditional());
  }
  LATENTD_RETURN_IF_ERROR(expect_op("]"));
  const int depth = deepest({&object, &start, &stop, &step});
  return make(line,
              SliceExpr{std::move(object), std::move(start), std::move(stop), std::move(step)},
              depth);
}

Result<ExprPtr> ExpressionParser::call(ExprPtr callee) {
  const int at = line();
  LATENTD_ASSIGN_OR_RETURN(CallArguments given, arguments());
  const int depth = std::max(callee->depth, deepest(given));
  return make(at, CallExpr{std::move(callee), std::move(given)}, depth);
}

Result<CallArguments> ExpressionParser::arguments() {
  LATENTD_RETURN_IF_ERROR(expect_op("("));
  CallArguments given;
  while (!current().is_op(")")) {
    LATENTD_RETURN_IF_ERROR(argument(given));
    if (!skip_op(",")) break;
  }
  LATENTD_RETURN_IF_ERROR(expect_op(")"));
  return given;
}

Status ExpressionParser::argument(CallArguments& given) {
  const int at = line();
  const Status misplaced = syntax_error(at, "an argument stands after one that must be the last");
  if (skip_op("*")) {
    if (given.star != nullptr || given.double_star != nullptr) return misplaced;
    LATENTD_ASSIGN_OR_RETURN(given.star, conditional());
  } else if (skip_op("**")) {
    if (given.double_star != nullptr) return misplaced;
    LATENTD_ASSIGN_OR_RETURN(given.double_star, conditional());
  } else if (current().kind == TokenKind::kName && ahead().is_op("=")) {
    if (given.double_star != nullptr) return misplaced;
    std::string key = current().text;
    next();
    next();
    LATENTD_ASSIGN_OR_RETURN(ExprPtr value, conditional());
    given.keywords.emplace_back(std::move(key), std::move(value));
  } else {
    if (given.star != nullptr || given.double_star != nullptr || !given.keywords.empty()) {
      return misplaced;
    }
    LATENTD_ASSIGN_OR_RETURN(ExprPtr value, conditional());
    given.positional.push_back(std::move(value));
  }
  return ok_status();
}

Result<ExprPtr> ExpressionParser::filter(ExprPtr input) {
  const int at = line();
  LATENTD_ASSIGN_OR_RETURN(std::string filter_name, expect_dotted_name());
  CallArguments given;
  if (current().is_op("(")) {
    LATENTD_ASSIGN_OR_RETURN(given, arguments());
  }
  const int depth = std::max(deepest({&input}), deepest(given));
  const FilterFunction function = find_filter(filter_name);
  return make(at, FilterExpr{std::move(input), std::move(filter_name), function, std::move(given)},
              depth);
}

Result<ExprPtr> ExpressionParser::filter_chain(ExprPtr input) {
  LATENTD_ASSIGN_OR_RETURN(ExprPtr node, filter(std::move(input)));
  while (skip_op("|")) {
    LATENTD_ASSIGN_OR_RETURN(node, filter(std::move(node)));
  }
  return node;
}

Result<ExprPtr> ExpressionParser::test(ExprPtr input) {
  const int at = line();
  next();
  const bool negated = skip_name("not");
  LATENTD_ASSIGN_OR_RETURN(std::string test_name, expect_dotted_name());
  CallArguments given;
  const Token& token = current();
  const bool argument_follows =
      token.kind == TokenKind::kString || token.kind == TokenKind::kInteger ||
      token.kind == TokenKind::kFloat || token.is_op("[") || token.is_op("{") ||
      (token.kind == TokenKind::kName && !token.is_name("else") && !token.is_name("or") &&
       !token.is_name("and"));
  if (token.is_op("(")) {
    LATENTD_ASSIGN_OR_RETURN(given, arguments());
  } else if (argument_follows) {
    if (token.is_name("is")) return syntax_error(line(), "tests cannot be chained with 'is'");
    LATENTD_ASSIGN_OR_RETURN(ExprPtr argument_node, primary());
    LATENTD_ASSIGN_OR_RETURN(argument_node, postfix(std::move(argument_node)));
    given.positional.push_back(std::move(argument_node));
  }
  const int depth = std::max(input->depth, deepest(given));
  const TestFunction function = find_test(test_name);
  LATENTD_ASSIGN_OR_RETURN(
      ExprPtr node,
      make(at, TestExpr{std::move(input), std::move(test_name), function, std::move(given)},
           depth));
  if (!negated) return node;
  return make(at, UnaryExpr{UnaryOp::kNot, std::move(node)}, depth + 1);
}

}  // namespace latentd::jinja

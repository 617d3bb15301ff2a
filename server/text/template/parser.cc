#include "server/text/template/parser.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>

#include "server/text/template/expression_parser.h"

namespace latentd::jinja {

namespace {

using Ternary = ExpressionParser::Ternary;

constexpr std::array<std::string_view, 7> kRefused = {
    "include", "import", "from", "extends", "block", "autoescape", "recursive"};

class StatementParser final {
 public:
  StatementParser(std::vector<Token> tokens, const TemplateLimits& limits)
      : in_(std::move(tokens), limits) {}

  Result<Tree> run() {
    LATENTD_ASSIGN_OR_RETURN(Block body, block({}));
    return Tree{in_.take_symbols(), std::move(body)};
  }

 private:
  // Statements up to a tag named by one of `ends`, of which the name is then current; with no
  // `ends`, up to the end of the template.
  Result<Block> block(std::initializer_list<std::string_view> ends) {
    const ExpressionParser::Nesting nesting(in_);
    LATENTD_RETURN_IF_ERROR(in_.check_nesting(in_.nesting()));
    Block body;
    while (in_.current().kind != TokenKind::kEnd) {
      const Token& token = in_.current();
      const int line = token.line;
      if (token.kind == TokenKind::kText) {
        body.push_back({line, TextStmt{token.text}});
        in_.next();
      } else if (token.kind == TokenKind::kPrintBegin) {
        in_.next();
        LATENTD_ASSIGN_OR_RETURN(ExprPtr value, in_.expression_list());
        LATENTD_RETURN_IF_ERROR(in_.expect(TokenKind::kPrintEnd, "'}}'"));
        body.push_back({line, PrintStmt{std::move(value)}});
      } else {
        in_.next();
        const bool ended = std::any_of(ends.begin(), ends.end(), [this](std::string_view end) {
          return in_.current().is_name(end);
        });
        if (ended) return body;
        LATENTD_RETURN_IF_ERROR(statement(body));
        LATENTD_RETURN_IF_ERROR(in_.expect(TokenKind::kTagEnd, "'%}'"));
      }
    }
    if (ends.size() == 0) return body;
    return in_.unexpected(fmt::format("{{% {} %}}", *(ends.end() - 1)));
  }

  // After a tag's head: its end, the body, and the name of the tag that ends it.
  Result<Block> body_until(std::string_view end) {
    in_.skip_op(":");
    LATENTD_RETURN_IF_ERROR(in_.expect(TokenKind::kTagEnd, "'%}'"));
    LATENTD_ASSIGN_OR_RETURN(Block body, block({end}));
    in_.next();
    return body;
  }

  Status statement(Block& out) {
    const int line = in_.line();
    LATENTD_ASSIGN_OR_RETURN(const std::string tag, in_.expect_name());
    if (tag == "if") return if_statement(line, out);
    if (tag == "for") return for_statement(line, out);
    if (tag == "set") return set_statement(line, out);
    if (tag == "macro") return macro_statement(line, out);
    if (tag == "call") return call_statement(line, out);
    if (tag == "filter") return filter_statement(line, out);
    if (tag == "with") return with_statement(line, out);
    if (tag == "generation") return generation_statement(line, out);
    if (tag == "print") return print_statement(line, out);
    if (tag == "break" || tag == "continue") {
      if (loops_ == 0) return syntax_error(line, fmt::format("'{}' outside of a loop", tag));
      if (tag == "break") {
        out.push_back({line, BreakStmt{}});
      } else {
        out.push_back({line, ContinueStmt{}});
      }
      return ok_status();
    }
    if (std::find(kRefused.begin(), kRefused.end(), tag) != kRefused.end()) {
      return syntax_error(line, fmt::format("'{}' is not supported", tag));
    }
    return syntax_error(line, fmt::format("unknown tag '{}'", tag));
  }

  Status if_statement(int line, Block& out) {
    IfStmt node;
    while (true) {
      LATENTD_ASSIGN_OR_RETURN(ExprPtr condition, in_.expression_list(Ternary::kNot));
      in_.skip_op(":");
      LATENTD_RETURN_IF_ERROR(in_.expect(TokenKind::kTagEnd, "'%}'"));
      LATENTD_ASSIGN_OR_RETURN(Block body, block({"elif", "else", "endif"}));
      node.branches.emplace_back(std::move(condition), std::move(body));
      if (in_.skip_name("elif")) continue;
      if (in_.skip_name("else")) {
        LATENTD_ASSIGN_OR_RETURN(node.otherwise, body_until("endif"));
      } else {
        in_.next();
      }
      break;
    }
    out.push_back({line, std::move(node)});
    return ok_status();
  }

  Status for_statement(int line, Block& out) {
    ForStmt node;
    LATENTD_ASSIGN_OR_RETURN(node.target, target(AttributeTargets::kNo));
    if (!in_.skip_name("in")) return in_.unexpected("'in'");
    LATENTD_ASSIGN_OR_RETURN(node.items, in_.expression_list(Ternary::kNot));
    if (in_.skip_name("if")) {
      LATENTD_ASSIGN_OR_RETURN(node.condition, in_.expression());
    }
    if (in_.current().is_name("recursive")) {
      return syntax_error(line, "'recursive' is not supported");
    }
    in_.skip_op(":");
    LATENTD_RETURN_IF_ERROR(in_.expect(TokenKind::kTagEnd, "'%}'"));
    ++loops_;
    const ExpressionParser::SpecialNames outer_names = in_.used_names;
    in_.used_names = {};
    Result<Block> body = block({"else", "endfor"});
    node.uses_loop = in_.used_names.loop;
    in_.used_names.add(outer_names);
    --loops_;
    LATENTD_ASSIGN_OR_RETURN(node.body, std::move(body));
    if (in_.skip_name("else")) {
      LATENTD_ASSIGN_OR_RETURN(node.otherwise, body_until("endfor"));
    } else {
      in_.next();
    }
    out.push_back({line, std::move(node)});
    return ok_status();
  }

  enum class AttributeTargets : std::uint8_t { kNo, kYes };

  // `a`, `a, b`, `(a, b)`, and `namespace.a` where set may assign to it.
  Result<Target> target(AttributeTargets attributes) {
    const ExpressionParser::Nesting nesting(in_);
    LATENTD_RETURN_IF_ERROR(in_.check_nesting(in_.nesting()));
    std::vector<Target> items;
    bool is_tuple = false;
    while (in_.current().kind == TokenKind::kName || in_.current().is_op("(")) {
      if (in_.current().is_name("in") && is_tuple) break;
      LATENTD_ASSIGN_OR_RETURN(Target item, single_target(attributes));
      items.push_back(std::move(item));
      if (!in_.skip_op(",")) break;
      is_tuple = true;
    }
    if (items.empty()) return in_.unexpected("a name to assign to");
    if (!is_tuple) return std::move(items.front());
    return Target{-1, "", std::move(items)};
  }

  Result<Target> single_target(AttributeTargets attributes) {
    if (in_.skip_op("(")) {
      LATENTD_ASSIGN_OR_RETURN(Target inside, target(AttributeTargets::kNo));
      LATENTD_RETURN_IF_ERROR(in_.expect_op(")"));
      return inside;
    }
    LATENTD_ASSIGN_OR_RETURN(Target named, name_target());
    if (attributes == AttributeTargets::kYes && in_.skip_op(".")) {
      LATENTD_ASSIGN_OR_RETURN(named.attribute, in_.expect_name());
    }
    return named;
  }

  Result<Target> name_target() {
    const int line = in_.line();
    LATENTD_ASSIGN_OR_RETURN(const std::string name, in_.expect_name());
    for (const std::string_view constant : {"true", "false", "none", "True", "False", "None"}) {
      if (name == constant) return syntax_error(line, fmt::format("cannot assign to '{}'", name));
    }
    return Target{in_.symbol(name), "", {}};
  }

  Status set_statement(int line, Block& out) {
    LATENTD_ASSIGN_OR_RETURN(Target assigned, target(AttributeTargets::kYes));
    if (in_.skip_op("=")) {
      LATENTD_ASSIGN_OR_RETURN(ExprPtr value, in_.expression_list());
      out.push_back({line, SetStmt{std::move(assigned), std::move(value)}});
      return ok_status();
    }
    SetBlockStmt node;
    node.target = std::move(assigned);
    if (in_.skip_op("|")) {
      LATENTD_ASSIGN_OR_RETURN(node.filter, in_.filter_chain(nullptr));
    }
    LATENTD_ASSIGN_OR_RETURN(node.body, body_until("endset"));
    out.push_back({line, std::move(node)});
    return ok_status();
  }

  Status signature(MacroNode& node) {
    LATENTD_RETURN_IF_ERROR(in_.expect_op("("));
    while (!in_.current().is_op(")")) {
      MacroNode::Argument argument;
      argument.name = in_.current().text;
      const int line = in_.line();
      LATENTD_ASSIGN_OR_RETURN(const Target named, name_target());
      argument.symbol = named.symbol;
      if (in_.skip_op("=")) {
        LATENTD_ASSIGN_OR_RETURN(argument.initial, in_.expression());
      } else if (!node.arguments.empty() && node.arguments.back().initial != nullptr) {
        return syntax_error(line, "an argument without a default follows one that has it");
      }
      node.arguments.push_back(std::move(argument));
      if (!in_.skip_op(",")) break;
    }
    return in_.expect_op(")");
  }

  // The body of a macro or call block: no loop around it can be left, and the special names that it
  // uses become arguments.
  Status macro_body(MacroNode& node, std::string_view end) {
    const ExpressionParser::SpecialNames outer_names = in_.used_names;
    in_.used_names = {};
    const int outer_loops = std::exchange(loops_, 0);
    Result<Block> body = body_until(end);
    loops_ = outer_loops;
    node.takes_more_positional = in_.used_names.varargs;
    node.takes_more_keywords = in_.used_names.kwargs;
    node.takes_caller = in_.used_names.caller;
    in_.used_names.add(outer_names);
    LATENTD_ASSIGN_OR_RETURN(node.body, std::move(body));
    return ok_status();
  }

  Status macro_statement(int line, Block& out) {
    auto macro = std::make_unique<MacroNode>();
    macro->name = in_.current().text;
    LATENTD_ASSIGN_OR_RETURN(const Target named, name_target());
    macro->symbol = named.symbol;
    LATENTD_RETURN_IF_ERROR(signature(*macro));
    LATENTD_RETURN_IF_ERROR(macro_body(*macro, "endmacro"));
    out.push_back({line, MacroStmt{std::move(macro)}});
    return ok_status();
  }

  Status call_statement(int line, Block& out) {
    CallStmt node;
    node.caller = std::make_unique<MacroNode>();
    if (in_.current().is_op("(")) LATENTD_RETURN_IF_ERROR(signature(*node.caller));
    LATENTD_ASSIGN_OR_RETURN(node.call, in_.expression());
    if (!std::holds_alternative<CallExpr>(node.call->node)) {
      return syntax_error(line, "'call' needs a call of a macro");
    }
    LATENTD_RETURN_IF_ERROR(macro_body(*node.caller, "endcall"));
    out.push_back({line, std::move(node)});
    return ok_status();
  }

  Status filter_statement(int line, Block& out) {
    FilterStmt node;
    LATENTD_ASSIGN_OR_RETURN(node.filter, in_.filter_chain(nullptr));
    LATENTD_ASSIGN_OR_RETURN(node.body, body_until("endfilter"));
    out.push_back({line, std::move(node)});
    return ok_status();
  }

  Status with_statement(int line, Block& out) {
    WithStmt node;
    while (in_.current().kind != TokenKind::kTagEnd && !in_.current().is_op(":")) {
      if (!node.names.empty()) LATENTD_RETURN_IF_ERROR(in_.expect_op(","));
      LATENTD_ASSIGN_OR_RETURN(Target named, single_target(AttributeTargets::kNo));
      LATENTD_RETURN_IF_ERROR(in_.expect_op("="));
      LATENTD_ASSIGN_OR_RETURN(ExprPtr value, in_.expression());
      node.names.emplace_back(std::move(named), std::move(value));
    }
    LATENTD_ASSIGN_OR_RETURN(node.body, body_until("endwith"));
    out.push_back({line, std::move(node)});
    return ok_status();
  }

  Status generation_statement(int line, Block& out) {
    const int outer_loops = std::exchange(loops_, 0);
    Result<Block> body = body_until("endgeneration");
    loops_ = outer_loops;
    GenerationStmt node;
    LATENTD_ASSIGN_OR_RETURN(node.body, std::move(body));
    out.push_back({line, std::move(node)});
    return ok_status();
  }

  Status print_statement(int line, Block& out) {
    while (in_.current().kind != TokenKind::kTagEnd) {
      LATENTD_ASSIGN_OR_RETURN(ExprPtr value, in_.expression());
      out.push_back({line, PrintStmt{std::move(value)}});
      if (!in_.skip_op(",")) break;
    }
    return ok_status();
  }

  ExpressionParser in_;
  int loops_ = 0;  // for statements around the current token, up to the macro they are in
};

}  // namespace

Result<Tree> parse_template(std::string_view source, const TemplateLimits& limits) {
  if (source.size() > limits.max_source_bytes) {
    return Status(StatusCode::kResourceExhausted,
                  fmt::format("the template has {} bytes, the limit is {}", source.size(),
                              limits.max_source_bytes));
  }
  LATENTD_ASSIGN_OR_RETURN(std::vector<Token> tokens, tokenize(source));
  return StatementParser(std::move(tokens), limits).run();
}

}  // namespace latentd::jinja

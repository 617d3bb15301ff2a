// The part of the parser that reads expressions, and the token stream that both parts share.
//
// Contract: one use, one thread; see parser.h for errors.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "server/text/template/ast.h"
#include "server/text/template/lexer.h"
#include "server/text/template/limits.h"

namespace latentd::jinja {

class ExpressionParser {
 public:
  ExpressionParser(std::vector<Token> tokens, const TemplateLimits& limits)
      : tokens_(std::move(tokens)), limits_(limits) {}

  enum class Ternary : std::uint8_t { kAllowed, kNot };

  Result<ExprPtr> expression(Ternary ternary = Ternary::kAllowed);
  // One expression, or a tuple without parentheses.
  Result<ExprPtr> expression_list(Ternary ternary = Ternary::kAllowed);
  // `name(arguments) | name ...` applied to `input`, which may be null for the body of a block.
  Result<ExprPtr> filter_chain(ExprPtr input);

  // The token stream.
  const Token& current() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  int line() const { return current().line; }
  void next() {
    if (at_ + 1 < tokens_.size()) ++at_;
  }
  bool skip_op(std::string_view op);
  bool skip_name(std::string_view name);
  Status expect_op(std::string_view op);
  Status expect(TokenKind kind, std::string_view what);
  Result<std::string> expect_name();
  // `a.b`, as names of filters and tests may be spelled.
  Result<std::string> expect_dotted_name();
  Status unexpected(std::string_view wanted) const;

  int symbol(const std::string& name);
  std::vector<std::string> take_symbols() { return std::move(symbols_); }

  // Counts what is open around the current token.
  class Nesting {
   public:
    explicit Nesting(ExpressionParser& parser) : parser_(parser) { ++parser_.nesting_; }
    ~Nesting() { --parser_.nesting_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

   private:
    ExpressionParser& parser_;
  };
  Status check_nesting(int depth) const;
  int nesting() const { return nesting_; }

  // Names that a macro's body may use without having them as arguments, and that of a loop.
  struct SpecialNames {
    bool varargs = false, kwargs = false, caller = false, loop = false;

    void add(const SpecialNames& other) {
      varargs = varargs || other.varargs;
      kwargs = kwargs || other.kwargs;
      caller = caller || other.caller;
      loop = loop || other.loop;
    }
  };
  SpecialNames used_names;

 private:
  Result<ExprPtr> make(int line, decltype(Expr::node) node, int deepest_child);
  static int deepest(std::initializer_list<const ExprPtr*> children);

  Result<ExprPtr> conditional();
  Result<ExprPtr> logical_or();
  Result<ExprPtr> logical_and();
  Result<ExprPtr> logical_not();
  Result<ExprPtr> comparison();
  Result<ExprPtr> sum();
  Result<ExprPtr> concatenation();
  Result<ExprPtr> product();
  Result<ExprPtr> power();
  Result<ExprPtr> unary(bool with_filters);
  Result<ExprPtr> primary();
  Result<ExprPtr> name();
  Result<ExprPtr> string();
  Result<ExprPtr> number();
  Result<ExprPtr> parenthesized();
  Result<ExprPtr> list();
  Result<ExprPtr> map();
  Result<ExprPtr> postfix(ExprPtr node);
  Result<ExprPtr> filters_and_tests(ExprPtr node);
  Result<ExprPtr> attribute(ExprPtr object);
  Result<ExprPtr> subscript(ExprPtr object);
  Result<ExprPtr> slice(ExprPtr object, ExprPtr start, int line);
  Result<ExprPtr> call(ExprPtr callee);
  Result<ExprPtr> filter(ExprPtr input);
  Result<ExprPtr> test(ExprPtr input);
  Result<CallArguments> arguments();
  Status argument(CallArguments& arguments);
  static int deepest(const CallArguments& arguments);
  bool at_list_end() const;

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  const TemplateLimits& limits_;
  int nesting_ = 0;
  std::vector<std::string> symbols_;
  std::unordered_map<std::string, int> symbol_numbers_;
};

}  // namespace latentd::jinja

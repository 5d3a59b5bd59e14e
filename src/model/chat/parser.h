// Builds the tree of a template from its tokens, by Jinja's grammar.
//
// Recursion is bounded twice: by a counter on the way down, and by the depth each expression
// keeps, because chains such as a.b.c and 1 + 2 + 3 grow a tree without recursion.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "liquidgemm/status.h"
#include "model/chat/ast.h"
#include "model/chat/lexer.h"

namespace liquidgemm::chat {

class Parser {
 public:
  Parser(const Source& source, std::vector<Token> tokens, int max_depth);

  Result<Body> parse();

 private:
  // Counts nesting on the way down.
  class Nest {
   public:
    explicit Nest(Parser& parser) : parser_(parser) { parser_.descend(); }
    ~Nest() { --parser_.depth_; }
    Nest(const Nest&) = delete;
    Nest& operator=(const Nest&) = delete;

   private:
    Parser& parser_;
  };

  // What the names in a macro's or loop's body tell about it.
  struct Enclosing {
    Statement* loop = nullptr;         // a for
    MacroDefinition* macro = nullptr;  // or a macro or call block
  };

  const Token& current() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  void advance();
  bool take_name(std::string_view name);
  bool take_operator(std::string_view name);
  void expect_operator(std::string_view name);
  void expect(TokenKind kind, std::string_view what);
  std::string expect_name(std::string_view what);
  bool failed() const { return !error_.ok(); }
  void fail(std::size_t offset, std::string_view message, StatusCode code = StatusCode::kCorrupt);
  void fail_at_current(std::string_view expected);
  void descend();

  // parser.cc: statements
  Body parse_body(std::initializer_list<std::string_view> ends, std::string_view tag,
                  std::size_t tag_offset);
  std::unique_ptr<Statement> parse_statement();
  void parse_block_end(std::string_view name);
  void parse_if(Statement& statement);
  void parse_for(Statement& statement);
  void parse_set(Statement& statement);
  void parse_with(Statement& statement);
  void parse_macro(Statement& statement);
  void parse_call_block(Statement& statement);
  void parse_filter_block(Statement& statement);
  void parse_signature(MacroDefinition& macro);
  ExpressionPtr parse_target(bool stop_at_in, bool namespaces);
  void check_target(Expression& target);
  void check_known(const Expression& expression);

  // parser_expression.cc
  ExpressionPtr make(ExpressionKind kind, std::size_t offset);
  ExpressionPtr make(ExpressionKind kind, std::size_t offset, ExpressionPtr a,
                     ExpressionPtr b = nullptr, ExpressionPtr c = nullptr);
  void adopt(Expression& parent, ExpressionPtr child);
  void deepen(Expression& parent, const Expression* child);
  ExpressionPtr parse_expression(bool condition = true);
  ExpressionPtr parse_tuple(bool condition, bool parentheses, bool target, bool stop_at_in,
                            bool namespaces);
  ExpressionPtr parse_or();
  ExpressionPtr parse_and();
  ExpressionPtr parse_not();
  ExpressionPtr parse_compare();
  ExpressionPtr parse_arithmetic(int level);
  ExpressionPtr parse_unary(bool filters);
  ExpressionPtr parse_primary(bool namespaces);
  ExpressionPtr parse_list();
  ExpressionPtr parse_dict();
  ExpressionPtr parse_postfix(ExpressionPtr left);
  ExpressionPtr parse_filters_and_tests(ExpressionPtr left);
  ExpressionPtr parse_dot(ExpressionPtr left);
  ExpressionPtr parse_subscript(ExpressionPtr left);
  ExpressionPtr parse_call(ExpressionPtr callee);
  ExpressionPtr parse_filters(ExpressionPtr left);
  ExpressionPtr parse_one_filter(ExpressionPtr left);
  ExpressionPtr parse_test(ExpressionPtr left);
  void parse_arguments(Expression& parent);
  void note_name(const std::string& name);

  const Source& source_;
  const std::vector<Token> tokens_;
  const int max_depth_;
  std::size_t at_ = 0;
  int depth_ = 0;
  int conditional_ = 0;  // inside if: an unknown filter fails only when it runs, as in Jinja
  std::vector<Enclosing> enclosing_;
  Status error_;
};

}  // namespace liquidgemm::chat

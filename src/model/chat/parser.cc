#include "model/chat/parser.h"

#include <algorithm>
#include <array>

#include "model/chat/filters.h"

namespace liquidgemm::chat {
namespace {

// One level of brackets passes the counter four times.
constexpr int kCountsPerLevel = 4;

std::string describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::kText: return "text";
    case TokenKind::kBlockBegin: return "'{%'";
    case TokenKind::kBlockEnd: return "the end of the tag";
    case TokenKind::kPrintBegin: return "'{{'";
    case TokenKind::kPrintEnd: return "the end of the tag";
    case TokenKind::kString: return "a string";
    case TokenKind::kEnd: return "the end of the template";
    default: return "'" + token.text + "'";
  }
}

}  // namespace

Parser::Parser(const Source& source, std::vector<Token> tokens, int max_depth)
    : source_(source), tokens_(std::move(tokens)), max_depth_(max_depth) {}

Result<Body> Parser::parse() {
  Body body = parse_body({}, "", 0);
  if (failed()) return error_;
  return body;
}

void Parser::advance() {
  if (at_ + 1 < tokens_.size()) ++at_;
}

bool Parser::take_name(std::string_view name) {
  if (!current().is_name(name)) return false;
  advance();
  return true;
}

bool Parser::take_operator(std::string_view name) {
  if (!current().is_operator(name)) return false;
  advance();
  return true;
}

void Parser::expect_operator(std::string_view name) {
  if (!failed() && !take_operator(name)) fail_at_current("'" + std::string(name) + "'");
}

void Parser::expect(TokenKind kind, std::string_view what) {
  if (failed()) return;
  if (current().kind != kind) return fail_at_current(what);
  advance();
}

std::string Parser::expect_name(std::string_view what) {
  if (failed()) return {};
  if (current().kind != TokenKind::kName) {
    fail_at_current(what);
    return {};
  }
  std::string name = current().text;
  advance();
  return name;
}

void Parser::fail(std::size_t offset, std::string_view message, StatusCode code) {
  if (error_.ok()) error_ = source_.error(code, offset, message);
}

void Parser::fail_at_current(std::string_view expected) {
  fail(current().offset, "expected " + std::string(expected) + ", found " + describe(current()));
}

void Parser::descend() {
  if (++depth_ > kCountsPerLevel * max_depth_) {
    fail(current().offset,
         "brackets or blocks nest deeper than " + std::to_string(max_depth_) + " levels",
         StatusCode::kResourceExhausted);
  }
}

// Statements up to a tag named in `ends`, which stays as the current token. Without `ends`: up to
// the end of the template.
Body Parser::parse_body(std::initializer_list<std::string_view> ends, std::string_view tag,
                        std::size_t tag_offset) {
  Body body;
  if (ends.size() > 0) {
    take_operator(":");  // a colon there is allowed, for those who write Python
    expect(TokenKind::kBlockEnd, "the end of the tag");
  }
  while (!failed()) {
    const Token& token = current();
    if (token.kind == TokenKind::kEnd) {
      if (ends.size() > 0) {
        fail(tag_offset,
             "'" + std::string(tag) + "' is never closed; 'end" + std::string(tag) + "' closes it");
      }
      break;
    }
    if (token.kind == TokenKind::kText) {
      body.push_back(std::make_unique<Statement>());
      body.back()->text = token.text;
      body.back()->offset = token.offset;
      advance();
    } else if (token.kind == TokenKind::kPrintBegin) {
      body.push_back(std::make_unique<Statement>());
      body.back()->kind = StatementKind::kPrint;
      body.back()->offset = token.offset;
      advance();
      body.back()->expression = parse_tuple(true, false, false, false, false);
      expect(TokenKind::kPrintEnd, "'}}'");
    } else {
      expect(TokenKind::kBlockBegin, "a tag");
      if (std::any_of(ends.begin(), ends.end(),
                      [&](std::string_view end) { return current().is_name(end); })) {
        break;
      }
      body.push_back(parse_statement());
      expect(TokenKind::kBlockEnd, "the end of the tag");
    }
  }
  return body;
}

void Parser::parse_block_end(std::string_view name) {
  if (!failed() && !take_name(name)) fail_at_current("'" + std::string(name) + "'");
}

std::unique_ptr<Statement> Parser::parse_statement() {
  auto statement = std::make_unique<Statement>();
  const Nest nest(*this);
  statement->offset = current().offset;
  const std::string name = expect_name("a tag's name");
  if (failed()) return statement;
  if (name == "if") {
    parse_if(*statement);
  } else if (name == "for") {
    parse_for(*statement);
  } else if (name == "set") {
    parse_set(*statement);
  } else if (name == "with") {
    parse_with(*statement);
  } else if (name == "macro") {
    parse_macro(*statement);
  } else if (name == "call") {
    parse_call_block(*statement);
  } else if (name == "filter") {
    parse_filter_block(*statement);
  } else if (name == "print") {
    // {% print a, b %} prints one after the other.
    statement->kind = StatementKind::kPrint;
    statement->expression = make(ExpressionKind::kConcat, statement->offset);
    while (!failed() && current().kind != TokenKind::kBlockEnd) {
      if (!statement->expression->operands.empty()) expect_operator(",");
      adopt(*statement->expression, parse_expression());
    }
  } else if (name == "generation") {
    statement->kind = StatementKind::kGeneration;
    enclosing_.push_back({});  // a boundary: break does not reach through it
    statement->body = parse_body({"endgeneration"}, name, statement->offset);
    enclosing_.pop_back();
    parse_block_end("endgeneration");
  } else if (name == "break" || name == "continue") {
    statement->kind = name == "break" ? StatementKind::kBreak : StatementKind::kContinue;
    if (enclosing_.empty() || enclosing_.back().loop == nullptr) {
      fail(statement->offset, "'" + name + "' outside of a loop");
    }
  } else {
    static constexpr std::array<std::string_view, 7> kLeftOut = {
        "block", "extends", "include", "import", "from", "autoescape", "do"};
    const bool known = std::find(kLeftOut.begin(), kLeftOut.end(), name) != kLeftOut.end();
    fail(statement->offset,
         known ? "the tag '" + name + "' is not supported in chat templates"
               : "unknown tag '" + name + "'",
         known ? StatusCode::kUnsupported : StatusCode::kCorrupt);
  }
  return statement;
}

void Parser::parse_if(Statement& statement) {
  statement.kind = StatementKind::kIf;
  ++conditional_;
  do {
    Branch branch;
    branch.condition = parse_tuple(false, false, false, false, false);
    branch.body = parse_body({"elif", "else", "endif"}, "if", statement.offset);
    statement.branches.push_back(std::move(branch));
  } while (!failed() && take_name("elif"));
  if (take_name("else")) statement.otherwise = parse_body({"endif"}, "if", statement.offset);
  --conditional_;
  parse_block_end("endif");
}

void Parser::parse_for(Statement& statement) {
  statement.kind = StatementKind::kFor;
  statement.target = parse_target(true, false);
  parse_block_end("in");
  statement.expression = parse_tuple(false, false, false, false, false);
  if (take_name("if")) statement.condition = parse_expression();
  if (current().is_name("recursive")) {
    fail(current().offset, "recursive loops are not supported in chat templates",
         StatusCode::kUnsupported);
  }
  enclosing_.push_back({&statement, nullptr});
  check_target(*statement.target);  // again: inside a loop `loop` is no target
  statement.body = parse_body({"endfor", "else"}, "for", statement.offset);
  enclosing_.pop_back();
  if (take_name("else")) statement.otherwise = parse_body({"endfor"}, "for", statement.offset);
  parse_block_end("endfor");
}

void Parser::parse_set(Statement& statement) {
  statement.kind = StatementKind::kSet;
  statement.target = parse_target(false, true);
  if (take_operator("=")) {
    statement.expression = parse_tuple(true, false, false, false, false);
    return;
  }
  statement.kind = StatementKind::kSetBlock;
  if (current().is_operator("|")) statement.expression = parse_filters(nullptr);
  statement.body = parse_body({"endset"}, "set", statement.offset);
  parse_block_end("endset");
}

void Parser::parse_with(Statement& statement) {
  statement.kind = StatementKind::kWith;
  while (!failed() && current().kind != TokenKind::kBlockEnd) {
    if (!statement.assignments.empty()) expect_operator(",");
    ExpressionPtr target = parse_target(false, false);
    expect_operator("=");
    statement.assignments.emplace_back(std::move(target), parse_expression());
  }
  statement.body = parse_body({"endwith"}, "with", statement.offset);
  parse_block_end("endwith");
}

void Parser::parse_signature(MacroDefinition& macro) {
  expect_operator("(");
  while (!failed() && !current().is_operator(")")) {
    if (!macro.parameters.empty()) expect_operator(",");
    const std::size_t offset = current().offset;
    macro.parameters.push_back(expect_name("a parameter's name"));
    if (take_operator("=")) {
      macro.defaults.push_back(parse_expression());
    } else if (!macro.defaults.empty()) {
      fail(offset, "a parameter without a default follows one that has a default");
    }
  }
  expect_operator(")");
}

void Parser::parse_macro(Statement& statement) {
  statement.kind = StatementKind::kMacro;
  statement.macro = std::make_unique<MacroDefinition>();
  MacroDefinition& macro = *statement.macro;
  macro.name = expect_name("the macro's name");
  parse_signature(macro);
  enclosing_.push_back({nullptr, &macro});
  macro.body = parse_body({"endmacro"}, "macro", statement.offset);
  enclosing_.pop_back();
  parse_block_end("endmacro");
}

void Parser::parse_call_block(Statement& statement) {
  statement.kind = StatementKind::kCall;
  statement.macro = std::make_unique<MacroDefinition>();
  MacroDefinition& macro = *statement.macro;
  macro.name = "caller";
  if (current().is_operator("(")) parse_signature(macro);
  statement.expression = parse_expression();
  if (!failed() && statement.expression->kind != ExpressionKind::kCall) {
    fail(statement.offset, "expected a call");
  }
  enclosing_.push_back({nullptr, &macro});
  macro.body = parse_body({"endcall"}, "call", statement.offset);
  enclosing_.pop_back();
  parse_block_end("endcall");
}

void Parser::parse_filter_block(Statement& statement) {
  statement.kind = StatementKind::kFilter;
  statement.expression = parse_filters(parse_one_filter(nullptr));
  statement.body = parse_body({"endfilter"}, "filter", statement.offset);
  parse_block_end("endfilter");
}

ExpressionPtr Parser::parse_target(bool stop_at_in, bool namespaces) {
  ExpressionPtr target = parse_tuple(true, false, true, stop_at_in, namespaces);
  check_target(*target);
  return target;
}

void Parser::check_target(Expression& target) {
  if (failed()) return;
  switch (target.kind) {
    case ExpressionKind::kTuple:
      for (const ExpressionPtr& item : target.operands) check_target(*item);
      return;
    case ExpressionKind::kNamespaceAttribute: return;
    case ExpressionKind::kName: {
      const bool in_loop = std::any_of(enclosing_.begin(), enclosing_.end(),
                                       [](const Enclosing& e) { return e.loop != nullptr; });
      if (target.name == "loop" && in_loop) {
        fail(target.offset, "'loop' cannot be assigned to inside a loop");
      }
      return;
    }
    default:
      fail(target.offset,
           "only names, tuples of names and a namespace's attributes can "
           "be assigned to");
  }
}

}  // namespace liquidgemm::chat

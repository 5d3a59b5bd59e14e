// Expressions: from the conditional, which binds weakest, down to literals and names.

#include <algorithm>

#include "model/chat/filters.h"
#include "model/chat/parser.h"

namespace liquidgemm::chat {
namespace {

struct BinaryOperator {
  std::string_view text;
  Operator op;
  int level;  // a higher one binds tighter
};

constexpr int kConcatLevel = 1;
constexpr BinaryOperator kArithmetic[] = {
    {"+", Operator::kAdd, 0},    {"-", Operator::kSubtract, 0}, {"*", Operator::kMultiply, 2},
    {"/", Operator::kDivide, 2}, {"%", Operator::kModulo, 2},   {"//", Operator::kFloorDivide, 2},
    {"**", Operator::kPower, 3},
};
constexpr BinaryOperator kComparisons[] = {
    {"==", Operator::kEqual, 0},  {"!=", Operator::kNotEqual, 0},
    {"<", Operator::kLess, 0},    {"<=", Operator::kLessEqual, 0},
    {">", Operator::kGreater, 0}, {">=", Operator::kGreaterEqual, 0},
};

}  // namespace

ExpressionPtr Parser::make(ExpressionKind kind, std::size_t offset) {
  auto expression = std::make_unique<Expression>();
  expression->kind = kind;
  expression->offset = offset;
  return expression;
}

ExpressionPtr Parser::make(ExpressionKind kind, std::size_t offset, ExpressionPtr a,
                           ExpressionPtr b, ExpressionPtr c) {
  ExpressionPtr expression = make(kind, offset);
  adopt(*expression, std::move(a));
  if (b) adopt(*expression, std::move(b));
  if (c) adopt(*expression, std::move(c));
  return expression;
}

void Parser::deepen(Expression& parent, const Expression* child) {
  if (child == nullptr) return;
  parent.depth = std::max(parent.depth, child->depth + 1);
  if (parent.depth > max_depth_) {
    fail(parent.offset, "an expression nests deeper than " + std::to_string(max_depth_) + " levels",
         StatusCode::kResourceExhausted);
  }
}

void Parser::adopt(Expression& parent, ExpressionPtr child) {
  deepen(parent, child.get());
  parent.operands.push_back(std::move(child));
}

void Parser::note_name(const std::string& name) {
  for (Enclosing& enclosing : enclosing_) {
    if (enclosing.loop != nullptr && name == "loop") enclosing.loop->uses_loop = true;
    if (enclosing.macro == nullptr) continue;
    if (name == "caller") enclosing.macro->uses_caller = true;
    if (name == "varargs") enclosing.macro->uses_varargs = true;
    if (name == "kwargs") enclosing.macro->uses_kwargs = true;
  }
}

ExpressionPtr Parser::parse_expression(bool condition) {
  const Nest nest(*this);
  if (failed()) return make(ExpressionKind::kConstant, current().offset);
  const std::size_t offset = current().offset;
  ExpressionPtr value = parse_or();
  while (condition && !failed() && take_name("if")) {
    ExpressionPtr test = parse_or();
    ExpressionPtr otherwise = take_name("else") ? parse_expression() : nullptr;
    value = make(ExpressionKind::kCondition, offset, std::move(test), std::move(value),
                 std::move(otherwise));
  }
  return value;
}

// One expression, or several with commas between them, which are a tuple. `target`: only what
// may be assigned to.
ExpressionPtr Parser::parse_tuple(bool condition, bool parentheses, bool target, bool stop_at_in,
                                  bool namespaces) {
  const std::size_t offset = current().offset;
  std::vector<ExpressionPtr> items;
  bool tuple = false;
  while (!failed()) {
    if (!items.empty()) expect_operator(",");
    const Token& token = current();
    if (token.kind == TokenKind::kPrintEnd || token.kind == TokenKind::kBlockEnd ||
        token.is_operator(")") || (stop_at_in && token.is_name("in"))) {
      break;
    }
    items.push_back(target ? parse_primary(namespaces) : parse_expression(condition));
    if (!current().is_operator(",")) break;
    tuple = true;
  }
  if (!tuple && !items.empty()) return std::move(items[0]);
  if (!tuple && !parentheses) fail_at_current("an expression");
  ExpressionPtr result = make(ExpressionKind::kTuple, offset);
  for (ExpressionPtr& item : items) adopt(*result, std::move(item));
  return result;
}

ExpressionPtr Parser::parse_or() {
  ExpressionPtr left = parse_and();
  while (!failed() && current().is_name("or")) {
    const std::size_t offset = current().offset;
    advance();
    left = make(ExpressionKind::kOr, offset, std::move(left), parse_and());
  }
  return left;
}

ExpressionPtr Parser::parse_and() {
  ExpressionPtr left = parse_not();
  while (!failed() && current().is_name("and")) {
    const std::size_t offset = current().offset;
    advance();
    left = make(ExpressionKind::kAnd, offset, std::move(left), parse_not());
  }
  return left;
}

ExpressionPtr Parser::parse_not() {
  const Nest nest(*this);
  const std::size_t offset = current().offset;
  if (failed() || !take_name("not")) return parse_compare();
  return make(ExpressionKind::kNot, offset, parse_not());
}

ExpressionPtr Parser::parse_compare() {
  ExpressionPtr first = parse_arithmetic(0);
  ExpressionPtr chain;
  while (!failed()) {
    const std::size_t offset = current().offset;
    const BinaryOperator* found = std::find_if(
        std::begin(kComparisons), std::end(kComparisons),
        [&](const BinaryOperator& known) { return current().is_operator(known.text); });
    Operator op = Operator::kIn;
    if (found != std::end(kComparisons)) {
      op = found->op;
      advance();
    } else if (current().is_name("not") && ahead().is_name("in")) {
      op = Operator::kNotIn;
      advance();
      advance();
    } else if (!take_name("in")) {
      break;
    }
    if (!chain) chain = make(ExpressionKind::kCompare, offset, std::move(first));
    chain->operators.push_back(op);
    adopt(*chain, parse_arithmetic(0));
  }
  return chain ? std::move(chain) : std::move(first);
}

// Levels 0: + -, 1: ~, 2: * / // %, 3: **. All of them group from the left, ** too, as Jinja has
// it.
ExpressionPtr Parser::parse_arithmetic(int level) {
  ExpressionPtr left = parse_unary(true);
  while (!failed() && current().kind == TokenKind::kOperator) {
    const std::size_t offset = current().offset;
    if (current().is_operator("~") && kConcatLevel >= level) {
      // One node for a whole chain: the parts are joined once.
      ExpressionPtr concat = make(ExpressionKind::kConcat, offset, std::move(left));
      while (!failed() && take_operator("~")) {
        adopt(*concat, parse_arithmetic(kConcatLevel + 1));
      }
      left = std::move(concat);
      continue;
    }
    const BinaryOperator* found = std::find_if(
        std::begin(kArithmetic), std::end(kArithmetic), [&](const BinaryOperator& known) {
          return known.level >= level && current().is_operator(known.text);
        });
    if (found == std::end(kArithmetic)) break;
    advance();
    left = make(ExpressionKind::kArithmetic, offset, std::move(left),
                parse_arithmetic(found->level + 1));
    left->operators.push_back(found->op);
  }
  return left;
}

ExpressionPtr Parser::parse_unary(bool filters) {
  const Nest nest(*this);
  const std::size_t offset = current().offset;
  ExpressionPtr value;
  if (failed()) {
    value = make(ExpressionKind::kConstant, offset);
  } else if (take_operator("-")) {
    value = make(ExpressionKind::kNegate, offset, parse_unary(false));
  } else if (take_operator("+")) {
    value = make(ExpressionKind::kPlus, offset, parse_unary(false));
  } else {
    value = parse_primary(false);
  }
  value = parse_postfix(std::move(value));
  return filters ? parse_filters_and_tests(std::move(value)) : std::move(value);
}

ExpressionPtr Parser::parse_primary(bool namespaces) {
  const Token& token = current();
  ExpressionPtr value = make(ExpressionKind::kConstant, token.offset);
  if (failed()) return value;
  switch (token.kind) {
    case TokenKind::kName: {
      advance();
      if (token.text == "true" || token.text == "True") {
        value->constant = Value::boolean(true);
      } else if (token.text == "false" || token.text == "False") {
        value->constant = Value::boolean(false);
      } else if (token.text == "none" || token.text == "None") {
        value->constant = Value::none();
      } else if (namespaces && take_operator(".")) {
        value->kind = ExpressionKind::kNamespaceAttribute;
        value->name = token.text;
        value->attribute = expect_name("an attribute's name");
      } else {
        value->kind = ExpressionKind::kName;
        value->name = token.text;
        note_name(token.text);
      }
      return value;
    }
    case TokenKind::kString: {
      std::string text;
      for (; current().kind == TokenKind::kString; advance()) text += current().text;
      value->constant = Value::string(std::move(text));
      return value;
    }
    case TokenKind::kInteger:
      advance();
      value->constant = Value::integer(token.integer);
      return value;
    case TokenKind::kFloat:
      advance();
      value->constant = Value::real(token.real);
      return value;
    default: break;
  }
  if (token.is_operator("[")) return parse_list();
  if (token.is_operator("{")) return parse_dict();
  if (take_operator("(")) {
    const Nest nest(*this);
    value = parse_tuple(true, true, false, false, false);
    expect_operator(")");
    return value;
  }
  fail_at_current("an expression");
  return value;
}

ExpressionPtr Parser::parse_list() {
  ExpressionPtr list = make(ExpressionKind::kList, current().offset);
  expect_operator("[");
  while (!failed() && !current().is_operator("]")) {
    if (!list->operands.empty()) expect_operator(",");
    if (current().is_operator("]")) break;
    adopt(*list, parse_expression());
  }
  expect_operator("]");
  return list;
}

ExpressionPtr Parser::parse_dict() {
  ExpressionPtr dict = make(ExpressionKind::kDict, current().offset);
  expect_operator("{");
  while (!failed() && !current().is_operator("}")) {
    if (!dict->operands.empty()) expect_operator(",");
    if (current().is_operator("}")) break;
    adopt(*dict, parse_expression());
    expect_operator(":");
    adopt(*dict, parse_expression());
  }
  expect_operator("}");
  return dict;
}

ExpressionPtr Parser::parse_postfix(ExpressionPtr left) {
  while (!failed()) {
    if (current().is_operator(".")) {
      left = parse_dot(std::move(left));
    } else if (current().is_operator("[")) {
      left = parse_subscript(std::move(left));
    } else if (current().is_operator("(")) {
      left = parse_call(std::move(left));
    } else {
      break;
    }
  }
  return left;
}

ExpressionPtr Parser::parse_filters_and_tests(ExpressionPtr left) {
  while (!failed()) {
    if (current().is_operator("|")) {
      left = parse_filters(std::move(left));
    } else if (current().is_name("is")) {
      left = parse_test(std::move(left));
    } else if (current().is_operator("(")) {
      left = parse_call(std::move(left));
    } else {
      break;
    }
  }
  return left;
}

ExpressionPtr Parser::parse_dot(ExpressionPtr left) {
  const std::size_t offset = current().offset;
  expect_operator(".");
  if (current().kind == TokenKind::kInteger) {
    ExpressionPtr index = make(ExpressionKind::kConstant, current().offset);
    index->constant = Value::integer(current().integer);
    advance();
    return make(ExpressionKind::kItem, offset, std::move(left), std::move(index));
  }
  ExpressionPtr attribute = make(ExpressionKind::kAttribute, offset, std::move(left));
  attribute->name = expect_name("a name or a number");
  return attribute;
}

ExpressionPtr Parser::parse_subscript(ExpressionPtr left) {
  const std::size_t offset = current().offset;
  expect_operator("[");
  const auto at_part_end = [&] { return current().is_operator(":") || current().is_operator("]"); };
  ExpressionPtr first = at_part_end() ? nullptr : parse_expression();
  if (first && current().is_operator(",")) {
    // x[1, 2] asks for the item whose key is a tuple.
    ExpressionPtr key = make(ExpressionKind::kTuple, offset, std::move(first));
    while (!failed() && take_operator(",")) adopt(*key, parse_expression());
    first = std::move(key);
  }
  if (!current().is_operator(":")) {
    if (!first && !failed()) fail_at_current("an index");
    expect_operator("]");
    return make(ExpressionKind::kItem, offset, std::move(left), std::move(first));
  }
  ExpressionPtr slice = make(ExpressionKind::kSlice, offset, std::move(left));
  adopt(*slice, std::move(first));
  for (int part = 0; part < 2; ++part) {
    const bool given = take_operator(":") && !at_part_end();
    adopt(*slice, given ? parse_expression() : nullptr);
  }
  expect_operator("]");
  return slice;
}

void Parser::parse_arguments(Expression& parent) {
  const std::size_t offset = current().offset;
  Arguments& arguments = parent.arguments;
  expect_operator("(");
  for (bool first = true; !failed() && !current().is_operator(")"); first = false) {
    if (!first) {
      expect_operator(",");
      if (current().is_operator(")")) break;
    }
    bool in_order = !arguments.all_named;
    if (take_operator("*")) {
      in_order = in_order && !arguments.all_positional;
      arguments.all_positional = parse_expression();
      deepen(parent, arguments.all_positional.get());
    } else if (take_operator("**")) {
      arguments.all_named = parse_expression();
      deepen(parent, arguments.all_named.get());
    } else if (current().kind == TokenKind::kName && ahead().is_operator("=")) {
      std::string name = current().text;
      advance();
      advance();
      for (const auto& named : arguments.named) {
        if (named.first == name) fail(offset, "the argument '" + name + "' is given twice");
      }
      arguments.named.emplace_back(std::move(name), parse_expression());
      deepen(parent, arguments.named.back().second.get());
    } else {
      in_order = in_order && !arguments.all_positional && arguments.named.empty();
      arguments.positional.push_back(parse_expression());
      deepen(parent, arguments.positional.back().get());
    }
    if (!in_order) fail(offset, "arguments by position come before those by name");
  }
  expect_operator(")");
}

ExpressionPtr Parser::parse_call(ExpressionPtr callee) {
  ExpressionPtr call = make(ExpressionKind::kCall, current().offset, std::move(callee));
  parse_arguments(*call);
  return call;
}

ExpressionPtr Parser::parse_filters(ExpressionPtr left) {
  while (!failed() && take_operator("|")) left = parse_one_filter(std::move(left));
  return left;
}

ExpressionPtr Parser::parse_one_filter(ExpressionPtr left) {
  ExpressionPtr filter = make(ExpressionKind::kFilter, current().offset, std::move(left));
  filter->name = expect_name("a filter's name");
  if (current().is_operator("(")) parse_arguments(*filter);
  if (!failed() && conditional_ == 0 && !is_filter(filter->name)) {
    fail(filter->offset, "there is no filter named '" + filter->name + "'",
         StatusCode::kUnsupported);
  }
  return filter;
}

ExpressionPtr Parser::parse_test(ExpressionPtr left) {
  const std::size_t offset = current().offset;
  advance();  // is
  const bool negated = take_name("not");
  ExpressionPtr test = make(ExpressionKind::kTest, offset, std::move(left));
  test->name = expect_name("a test's name");
  const Token& token = current();
  const bool starts_value = token.kind == TokenKind::kName || token.kind == TokenKind::kString ||
                            token.kind == TokenKind::kInteger || token.kind == TokenKind::kFloat ||
                            token.is_operator("[") || token.is_operator("{");
  if (token.is_operator("(")) {
    parse_arguments(*test);
  } else if (token.is_name("is")) {
    fail(token.offset, "tests with 'is' cannot follow one another");
  } else if (starts_value && !token.is_name("else") && !token.is_name("or") &&
             !token.is_name("and")) {
    test->arguments.positional.push_back(parse_postfix(parse_primary(false)));
    deepen(*test, test->arguments.positional.back().get());
  }
  if (!failed() && conditional_ == 0 && !is_test(test->name)) {
    fail(test->offset, "there is no test named '" + test->name + "'", StatusCode::kUnsupported);
  }
  return negated ? make(ExpressionKind::kNot, offset, std::move(test)) : std::move(test);
}

}  // namespace liquidgemm::chat

// A parsed template. Nothing here nests deeper than TemplateLimits::depth, so every recursion over
// it is bounded.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model/chat/value.h"

namespace liquidgemm::chat {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

enum class ExpressionKind : std::uint8_t {
  kConstant,   // constant
  kName,       // name
  kList,       // operands
  kTuple,      // operands
  kDict,       // operands: key, value, key, value, ...
  kAttribute,  // operands[0].name
  kItem,       // operands[0][operands[1]]
  kSlice,      // operands[0][operands[1]:operands[2]:operands[3]], the last three may be null
  kCall,       // operands[0](arguments)
  kFilter,     // operands[0] | name(arguments); null stands for a filter block's text
  kTest,       // operands[0] is name(arguments)
  kCondition,  // operands[1] if operands[0] else operands[2], which may be null
  kOr,
  kAnd,
  kNot,
  kCompare,  // operands[0] operators[0] operands[1] operators[1] ...
  kConcat,   // all operands as text, the operator ~
  kNegate,
  kPlus,               // the sign
  kArithmetic,         // operands[0] operators[0] operands[1]
  kNamespaceAttribute  // as a target of set: name.attribute
};

enum class Operator : std::uint8_t {
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kFloorDivide,
  kModulo,
  kPower,
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn,
};

struct Arguments {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  ExpressionPtr all_positional;  // *x
  ExpressionPtr all_named;       // **x
};

struct Expression {
  ExpressionKind kind = ExpressionKind::kConstant;
  std::size_t offset = 0;  // into the source, for messages
  int depth = 1;
  Value constant;
  std::string name;
  std::string attribute;
  std::vector<Operator> operators;
  std::vector<ExpressionPtr> operands;
  Arguments arguments;
};

struct Statement;
using Body = std::vector<std::unique_ptr<Statement>>;

enum class StatementKind : std::uint8_t {
  kText,        // text
  kPrint,       // expression
  kIf,          // branches, otherwise
  kFor,         // target, expression, condition, body, otherwise
  kSet,         // target, expression
  kSetBlock,    // target, body, expression: its filters, may be null
  kWith,        // assignments, body
  kMacro,       // macro
  kCall,        // macro: the block as `caller`; expression: the call
  kFilter,      // expression, body
  kGeneration,  // body, in a scope of its own
  kBreak,
  kContinue,
};

struct MacroDefinition {
  std::string name;
  std::vector<std::string> parameters;
  std::vector<ExpressionPtr> defaults;  // of the last parameters
  Body body;
  bool uses_caller = false;
  bool uses_varargs = false;
  bool uses_kwargs = false;
};

struct Branch {
  ExpressionPtr condition;
  Body body;
};

struct Statement {
  StatementKind kind = StatementKind::kText;
  std::size_t offset = 0;
  std::string text;
  ExpressionPtr expression;
  ExpressionPtr target;
  ExpressionPtr condition;
  Body body;
  Body otherwise;
  std::vector<Branch> branches;
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> assignments;
  std::unique_ptr<MacroDefinition> macro;
  bool uses_loop = false;  // the body of a for names `loop`
};

}  // namespace liquidgemm::chat

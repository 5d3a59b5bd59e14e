// Expressions.

#include "model/chat/interpreter.h"
#include "model/chat/text.h"

namespace liquidgemm::chat {

Value Interpreter::evaluate(const Expression& expression) {
  const Depth depth(runtime_);
  if (!depth.ok()) {
    return {};
  }
  runtime_.at(expression.offset);
  if (!runtime_.step()) return {};
  return evaluate_node(expression);
}

Value Interpreter::evaluate_node(const Expression& expression) {
  const auto& operands = expression.operands;
  switch (expression.kind) {
    case ExpressionKind::kConstant: return expression.constant;
    case ExpressionKind::kName: {
      if (const Value* found = find_name(expression.name)) return *found;
      return Value::undefined("'" + expression.name + "' is undefined");
    }
    case ExpressionKind::kList:
    case ExpressionKind::kTuple: {
      std::vector<Value> items;
      for (const ExpressionPtr& item : operands) items.push_back(evaluate(*item));
      return runtime_.sequence(
          expression.kind == ExpressionKind::kList ? Kind::kList : Kind::kTuple, std::move(items));
    }
    case ExpressionKind::kDict: return evaluate_dict(expression);
    case ExpressionKind::kAttribute: {
      const Value object = evaluate(*operands[0]);
      runtime_.at(expression.offset);
      return runtime_.failed() ? Value() : get_attribute(runtime_, object, expression.name);
    }
    case ExpressionKind::kItem: {
      const Value object = evaluate(*operands[0]);
      const Value key = evaluate(*operands[1]);
      runtime_.at(expression.offset);
      return runtime_.failed() ? Value() : get_item(runtime_, object, key);
    }
    case ExpressionKind::kSlice: return evaluate_slice(expression);
    case ExpressionKind::kCall: return evaluate_call(expression);
    case ExpressionKind::kFilter: {
      const Value value = operands[0] ? evaluate(*operands[0]) : block_text_;
      const CallArguments arguments = evaluate_arguments(expression.arguments);
      runtime_.at(expression.offset);
      if (runtime_.failed()) return {};
      return apply_filter(runtime_, expression.name, value, arguments);
    }
    case ExpressionKind::kTest: {
      const Value value = evaluate(*operands[0]);
      const CallArguments arguments = evaluate_arguments(expression.arguments);
      runtime_.at(expression.offset);
      if (runtime_.failed()) return {};
      return Value::boolean(apply_test(runtime_, expression.name, value, arguments));
    }
    case ExpressionKind::kCondition: {
      const bool holds = truth(evaluate(*operands[0]));
      if (holds) return evaluate(*operands[1]);
      if (operands.size() > 2) return evaluate(*operands[2]);
      return Value::undefined("the condition was false and there is no else");
    }
    case ExpressionKind::kOr: {
      Value left = evaluate(*operands[0]);
      return truth(left) ? left : evaluate(*operands[1]);
    }
    case ExpressionKind::kAnd: {
      Value left = evaluate(*operands[0]);
      return truth(left) ? evaluate(*operands[1]) : left;
    }
    case ExpressionKind::kNot: return Value::boolean(!truth(evaluate(*operands[0])));
    case ExpressionKind::kCompare: return evaluate_compare(expression);
    case ExpressionKind::kConcat: return evaluate_concat(expression);
    case ExpressionKind::kNegate: {
      const Value value = evaluate(*operands[0]);
      runtime_.at(expression.offset);
      return runtime_.failed() ? Value() : negate(runtime_, value);
    }
    case ExpressionKind::kPlus: {
      const Value value = evaluate(*operands[0]);
      runtime_.at(expression.offset);
      if (value.is(Kind::kUndefined)) return runtime_.fail_undefined(value);
      if (!value.is_number()) return runtime_.fail("the sign + needs a number");
      return value.is(Kind::kBool) ? Value::integer(value.as_int()) : value;
    }
    case ExpressionKind::kArithmetic: {
      const Value left = evaluate(*operands[0]);
      const Value right = evaluate(*operands[1]);
      runtime_.at(expression.offset);
      if (runtime_.failed()) return {};
      return arithmetic(runtime_, expression.operators[0], left, right);
    }
    case ExpressionKind::kNamespaceAttribute: break;  // a target, never a value
  }
  return {};
}

Value Interpreter::evaluate_dict(const Expression& expression) {
  auto dict = std::make_shared<Dict>();
  for (std::size_t i = 0; i + 1 < expression.operands.size(); i += 2) {
    Value key = evaluate(*expression.operands[i]);
    Value value = evaluate(*expression.operands[i + 1]);
    runtime_.at(expression.offset);
    if (runtime_.failed() || !runtime_.set(*dict, std::move(key), std::move(value))) return {};
  }
  return runtime_.dict(std::move(dict));
}

Value Interpreter::evaluate_slice(const Expression& expression) {
  Value parts[4];
  for (int i = 0; i < 4; ++i) {
    const ExpressionPtr& operand = expression.operands[static_cast<std::size_t>(i)];
    parts[i] = operand ? evaluate(*operand) : Value::none();
  }
  runtime_.at(expression.offset);
  if (runtime_.failed()) return {};
  return get_slice(runtime_, parts[0], parts[1], parts[2], parts[3]);
}

// a < b < c is a < b and b < c, with b evaluated once and c only when it is needed.
Value Interpreter::evaluate_compare(const Expression& expression) {
  Value left = evaluate(*expression.operands[0]);
  for (std::size_t i = 0; i < expression.operators.size(); ++i) {
    Value right = evaluate(*expression.operands[i + 1]);
    runtime_.at(expression.offset);
    if (runtime_.failed()) return {};
    if (!compare(runtime_, expression.operators[i], left, right)) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

Value Interpreter::evaluate_concat(const Expression& expression) {
  std::string out;
  for (const ExpressionPtr& operand : expression.operands) {
    const Value value = evaluate(*operand);
    runtime_.at(expression.offset);
    out += to_text(runtime_, value);
    if (!runtime_.fits(out.size())) return {};
  }
  return runtime_.text(std::move(out));
}

CallArguments Interpreter::evaluate_arguments(const Arguments& arguments) {
  CallArguments out;
  for (const ExpressionPtr& argument : arguments.positional) {
    out.positional.push_back(evaluate(*argument));
  }
  for (const auto& [name, argument] : arguments.named) {
    out.named.emplace_back(name, evaluate(*argument));
  }
  if (arguments.all_positional) {
    const Value more = evaluate(*arguments.all_positional);
    for (Value& item : collect(runtime_, more)) out.positional.push_back(std::move(item));
  }
  if (arguments.all_named) {
    const Value more = evaluate(*arguments.all_named);
    if (runtime_.failed()) return out;
    if (!more.is(Kind::kDict)) {
      runtime_.fail("the argument after ** must be a mapping");
      return out;
    }
    for (const auto& [name, value] : more.as_dict().entries) {
      if (!name.is(Kind::kString) || !runtime_.step()) {
        runtime_.fail("keywords must be strings");
        return out;
      }
      for (const auto& [given, unused] : out.named) {
        if (!runtime_.step()) return out;
        if (given == name.as_string()) runtime_.fail("the argument '" + given + "' is given twice");
      }
      out.named.emplace_back(name.as_string(), value);
    }
  }
  return out;
}

Value Interpreter::evaluate_call(const Expression& expression, const Value* caller) {
  const Value callee = evaluate(*expression.operands[0]);
  CallArguments arguments = evaluate_arguments(expression.arguments);
  if (caller != nullptr) arguments.named.emplace_back("caller", *caller);
  runtime_.at(expression.offset);
  if (runtime_.failed()) return {};
  return call(callee, std::move(arguments));
}

Value Interpreter::call(const Value& callee, CallArguments arguments) {
  switch (callee.kind()) {
    case Kind::kUndefined: return runtime_.fail_undefined(callee);
    case Kind::kMacro: return call_macro(*callee.as_macro(), std::move(arguments));
    case Kind::kFunction: return call_function(callee.as_function(), arguments);
    case Kind::kMethod: {
      const Method& method = callee.as_method();
      return call_method(runtime_, method.self, method.name, arguments);
    }
    default:
      return runtime_.fail(std::string("'") + callee.type_name() + "' object is not callable");
  }
}

Value Interpreter::call_macro(const Macro& macro, CallArguments arguments) {
  const MacroDefinition& definition = *macro.definition;
  const std::string title = "macro '" + definition.name + "'";
  const auto take_named = [&](std::string_view name, Value* out) {
    for (auto it = arguments.named.begin(); it != arguments.named.end(); ++it) {
      if (it->first != name) continue;
      *out = std::move(it->second);
      arguments.named.erase(it);
      return true;
    }
    return false;
  };
  const Depth depth(runtime_);
  if (!depth.ok()) return {};
  const std::shared_ptr<Scope> outer = scope_;
  scope_ = macro.scope;
  std::string text;
  std::string* const outer_out = std::exchange(out_, &text);
  if (open_scope()) {
    const auto& parameters = definition.parameters;
    const std::size_t defaulted = parameters.size() - definition.defaults.size();
    // A default sees the parameters before it; its own and later ones hide outer names.
    for (const std::string& parameter : parameters) scope_->names[parameter] = Value();
    for (std::size_t i = 0; i < parameters.size() && !runtime_.failed(); ++i) {
      Value value;
      if (i < arguments.positional.size()) {
        value = std::move(arguments.positional[i]);
      } else if (!take_named(parameters[i], &value)) {
        value = i >= defaulted
                    ? evaluate(*definition.defaults[i - defaulted])
                    : Value::undefined("parameter '" + parameters[i] + "' was not provided");
      }
      scope_->names[parameters[i]] = std::move(value);
    }
    const auto declared = [&](std::string_view name) { return scope_->names.contains(name); };
    if (definition.uses_caller && !declared("caller")) {
      Value value = Value::undefined("no caller defined");
      take_named("caller", &value);
      scope_->names["caller"] = std::move(value);
    }
    if (definition.uses_kwargs && !declared("kwargs")) {
      auto dict = std::make_shared<Dict>();
      for (auto& [name, value] : arguments.named) {
        runtime_.set(*dict, Value::string(name), std::move(value));
      }
      scope_->names["kwargs"] = runtime_.dict(std::move(dict));
    } else if (!arguments.named.empty()) {
      runtime_.fail(title + " takes no keyword argument '" + arguments.named[0].first + "'");
    }
    if (definition.uses_varargs && !declared("varargs")) {
      std::vector<Value> rest;
      for (std::size_t i = parameters.size(); i < arguments.positional.size(); ++i) {
        rest.push_back(std::move(arguments.positional[i]));
      }
      scope_->names["varargs"] = runtime_.sequence(Kind::kTuple, std::move(rest));
    } else if (arguments.positional.size() > parameters.size()) {
      runtime_.fail(title + " takes not more than " + std::to_string(parameters.size()) +
                    " argument(s)");
    }
    if (!runtime_.failed()) run(definition.body);
  }
  out_ = outer_out;
  scope_ = outer;
  return runtime_.text(std::move(text));
}

}  // namespace liquidgemm::chat

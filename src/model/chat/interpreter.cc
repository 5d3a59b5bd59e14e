#include "model/chat/interpreter.h"

#include <utility>

namespace liquidgemm::chat {

Interpreter::Interpreter(const Source& source, const TemplateLimits& limits)
    : runtime_(source, limits), globals_(std::make_shared<Scope>()), scope_(globals_) {
  globals_->names["range"] = Value::function(Function::kRange);
  globals_->names["dict"] = Value::function(Function::kDict);
  globals_->names["namespace"] = Value::function(Function::kNamespace);
  globals_->names["raise_exception"] = Value::function(Function::kRaiseException);
  globals_->names["strftime_now"] = Value::function(Function::kStrftimeNow);
}

Interpreter::~Interpreter() = default;

Result<std::string> Interpreter::render(const Body& body, const json::Object& variables) {
  for (const auto& entry : variables) {
    Value value;
    if (!from_json(entry.value(), runtime_.limits().depth, &value)) {
      runtime_.fail("the variable '" + std::string(entry.key()) + "' nests deeper than " +
                    std::to_string(runtime_.limits().depth) + " levels");
      return runtime_.status();
    }
    globals_->names[std::string(entry.key())] = std::move(value);
  }
  std::string out;
  out_ = &out;
  run(body);
  out_ = nullptr;
  if (runtime_.failed()) return runtime_.status();
  return out;
}

const Value* Interpreter::find_name(std::string_view name) const {
  for (const Scope* scope = scope_.get(); scope != nullptr; scope = scope->parent.get()) {
    const auto found = scope->names.find(name);
    if (found != scope->names.end()) return &found->second;
  }
  return nullptr;
}

// Scopes form chains that are freed recursively, so their length is bounded like all nesting.
bool Interpreter::open_scope() {
  if (!runtime_.step()) return false;
  if (scope_->depth >= 4 * runtime_.limits().depth) {
    runtime_.fail(StatusCode::kResourceExhausted, "the template's scopes nest too deeply");
    return false;
  }
  auto scope = std::make_shared<Scope>();
  scope->depth = scope_->depth + 1;
  scope->parent = std::move(scope_);
  scope_ = std::move(scope);
  return true;
}

void Interpreter::close_scope() {
  std::shared_ptr<Scope> parent = scope_->parent;
  scope_ = std::move(parent);
}

void Interpreter::write(std::string_view text) {
  if (runtime_.fits(out_->size() + text.size() > runtime_.limits().output_bytes
                        ? out_->size() + text.size()
                        : text.size())) {
    out_->append(text);
  }
}

void Interpreter::print(const Value& value) {
  if (runtime_.failed()) return;
  if (value.is(Kind::kString)) return write(value.as_string());
  write(to_text(runtime_, value));
}

Interpreter::Flow Interpreter::run(const Body& body) {
  for (const auto& statement : body) {
    const Flow flow = run(*statement);
    if (runtime_.failed() || flow != Flow::kNormal) return flow;
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::run_body_in_scope(const Body& body) {
  if (!open_scope()) return Flow::kNormal;
  const Flow flow = run(body);
  close_scope();
  return flow;
}

Interpreter::Flow Interpreter::run(const Statement& statement) {
  const Depth depth(runtime_);
  if (!depth.ok() || !runtime_.step()) return Flow::kNormal;
  runtime_.at(statement.offset);
  switch (statement.kind) {
    case StatementKind::kText: write(statement.text); return Flow::kNormal;
    case StatementKind::kPrint: {
      const Value value = evaluate(*statement.expression);
      runtime_.at(statement.offset);
      print(value);
      return Flow::kNormal;
    }
    case StatementKind::kIf:
      for (const Branch& branch : statement.branches) {
        const bool holds = truth(evaluate(*branch.condition));
        if (runtime_.failed()) return Flow::kNormal;
        if (holds) return run(branch.body);
      }
      return run(statement.otherwise);
    case StatementKind::kFor: return run_for(statement);
    case StatementKind::kSet: assign(*statement.target, evaluate(*statement.expression)); break;
    case StatementKind::kSetBlock:
    case StatementKind::kFilter: return run_captured(statement);
    case StatementKind::kWith: {
      std::vector<Value> values;
      for (const auto& assignment : statement.assignments) {
        values.push_back(evaluate(*assignment.second));
      }
      if (!open_scope()) return Flow::kNormal;
      for (std::size_t i = 0; i < values.size(); ++i) {
        assign(*statement.assignments[i].first, std::move(values[i]));
      }
      const Flow flow = runtime_.failed() ? Flow::kNormal : run(statement.body);
      close_scope();
      return flow;
    }
    case StatementKind::kMacro:
      scope_->names[statement.macro->name] = define(*statement.macro);
      break;
    case StatementKind::kCall: {
      const Value caller = define(*statement.macro);
      print(evaluate_call(*statement.expression, &caller));
      break;
    }
    case StatementKind::kGeneration: return run_body_in_scope(statement.body);
    case StatementKind::kBreak: return Flow::kBreak;
    case StatementKind::kContinue: return Flow::kContinue;
  }
  return Flow::kNormal;
}

// The text of a set block or filter block goes to a value instead of the output.
Interpreter::Flow Interpreter::run_captured(const Statement& statement) {
  std::string text;
  std::string* const outer = std::exchange(out_, &text);
  const Flow flow = run_body_in_scope(statement.body);
  out_ = outer;
  if (runtime_.failed() || flow != Flow::kNormal) return flow;
  Value value = runtime_.text(std::move(text));
  if (statement.expression) {
    const Value outer_text = std::exchange(block_text_, std::move(value));
    value = evaluate(*statement.expression);
    block_text_ = outer_text;
  }
  if (statement.kind == StatementKind::kFilter) {
    print(value);
  } else {
    assign(*statement.target, std::move(value));
  }
  return flow;
}

Interpreter::Flow Interpreter::run_for(const Statement& statement) {
  const Value iterable = evaluate(*statement.expression);
  if (runtime_.failed()) return Flow::kNormal;
  Iterator iterator(runtime_, iterable);
  const std::shared_ptr<Scope> outer = scope_;
  // The condition sees the item and what is around the loop, not the loop's own body.
  const auto pull = [&](Value* item) {
    while (iterator.next(item)) {
      if (!statement.condition) return true;
      const std::shared_ptr<Scope> inner = std::exchange(scope_, outer);
      bool passes = false;
      if (open_scope()) {
        assign(*statement.target, *item);
        passes = !runtime_.failed() && truth(evaluate(*statement.condition));
      }
      scope_ = inner;
      if (runtime_.failed()) return false;
      if (passes) return true;
    }
    return false;
  };
  Loop* loop = nullptr;
  if (statement.uses_loop) {
    if (!runtime_.step(4)) return Flow::kNormal;  // it lives until the render ends
    loops_.push_back(std::make_unique<Loop>());
    loop = loops_.back().get();
    loop->pull = pull;
    loop->iterable = iterable;
    loop->filtered = statement.condition != nullptr;
  }
  // Jinja runs the else part unless one round reached the end of the body: a loop whose every
  // round ends in `break` or `continue` runs it too.
  bool completed = false;
  Value item;
  while (!runtime_.failed() && (loop != nullptr ? next_item(*loop, &item) : pull(&item))) {
    if (!open_scope()) break;
    if (loop != nullptr) scope_->names["loop"] = Value::reference(loop);
    assign(*statement.target, std::move(item));
    const Flow flow = runtime_.failed() ? Flow::kBreak : run(statement.body);
    scope_ = outer;
    if (flow == Flow::kBreak) break;
    if (flow == Flow::kNormal) completed = true;
  }
  scope_ = outer;
  if (loop != nullptr) {
    loop->pull = nullptr;  // it refers to this call
    loop->ahead.clear();
  }
  if (runtime_.failed() || completed || statement.otherwise.empty()) return Flow::kNormal;
  return run_body_in_scope(statement.otherwise);
}

Value Interpreter::define(const MacroDefinition& definition) {
  if (!runtime_.step(4)) return {};
  macros_.push_back(std::make_unique<Macro>(Macro{&definition, scope_}));
  return Value::reference(macros_.back().get());
}

void Interpreter::assign(const Expression& target, Value value) {
  runtime_.at(target.offset);
  if (!runtime_.step()) return;
  switch (target.kind) {
    case ExpressionKind::kName: scope_->names[target.name] = std::move(value); return;
    case ExpressionKind::kNamespaceAttribute: {
      const Value* found = find_name(target.name);
      if (found == nullptr || !found->is(Kind::kNamespace)) {
        runtime_.fail("'" + target.name + "' is no namespace, so its attributes cannot be set");
        return;
      }
      runtime_.set(found->as_namespace()->attributes, Value::string(target.attribute),
                   std::move(value));
      return;
    }
    default: break;
  }
  std::vector<Value> items = collect(runtime_, value);
  if (runtime_.failed()) return;
  if (items.size() != target.operands.size()) {
    runtime_.fail("expected " + std::to_string(target.operands.size()) +
                  " values to unpack, found " + std::to_string(items.size()));
    return;
  }
  for (std::size_t i = 0; i < items.size(); ++i) assign(*target.operands[i], std::move(items[i]));
}

}  // namespace liquidgemm::chat

// Runs a parsed template.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "model/chat/ast.h"
#include "model/chat/filters.h"
#include "model/chat/runtime.h"

namespace liquidgemm::chat {

// The names of one block. Loops, macros and `with` open one; `if` does not.
struct Scope {
  std::map<std::string, Value, std::less<>> names;
  std::shared_ptr<Scope> parent;
  int depth = 0;
};

struct Macro {
  const MacroDefinition* definition = nullptr;
  std::shared_ptr<Scope> scope;  // where it was defined: what its body sees
};

// The `loop` of a for. It may outlive the for (a namespace can hold it), but then takes no items.
struct Loop {
  std::function<bool(Value*)> pull;  // the next item that passes the loop's condition
  std::deque<Value> ahead;           // items that a look ahead has pulled already
  Value iterable;
  bool filtered = false;
  std::int64_t index0 = -1;
  std::int64_t length = -1;  // -1: not asked for yet
  Value previous;
  Value current;
  bool has_changed = false;
  Value changed;  // the arguments of the last loop.changed(), a tuple
};

class Interpreter {
 public:
  Interpreter(const Source& source, const TemplateLimits& limits);
  ~Interpreter();

  Result<std::string> render(const Body& body, const json::Object& variables);

 private:
  enum class Flow { kNormal, kBreak, kContinue };

  // interpreter.cc: statements
  Flow run(const Body& body);
  Flow run(const Statement& statement);
  Flow run_for(const Statement& statement);
  Flow run_captured(const Statement& statement);
  Flow run_body_in_scope(const Body& body);
  void assign(const Expression& target, Value value);
  void print(const Value& value);
  void write(std::string_view text);
  bool open_scope();
  void close_scope();
  Value define(const MacroDefinition& definition);
  const Value* find_name(std::string_view name) const;

  // evaluate.cc: expressions
  Value evaluate(const Expression& expression);
  Value evaluate_node(const Expression& expression);
  Value evaluate_dict(const Expression& expression);
  Value evaluate_slice(const Expression& expression);
  Value evaluate_compare(const Expression& expression);
  Value evaluate_concat(const Expression& expression);
  Value evaluate_call(const Expression& expression, const Value* caller = nullptr);
  CallArguments evaluate_arguments(const Arguments& arguments);
  Value call(const Value& callee, CallArguments arguments);
  Value call_macro(const Macro& macro, CallArguments arguments);
  Value call_function(Function function, const CallArguments& arguments);

  // functions.cc
  Value make_range(const CallArguments& arguments);
  Value make_dict(const CallArguments& arguments);
  Value make_namespace(const CallArguments& arguments);

  Runtime runtime_;
  std::shared_ptr<Scope> globals_;
  std::shared_ptr<Scope> scope_;
  std::string* out_ = nullptr;  // where text goes: the render's, a macro's or a set block's
  Value block_text_;            // what a filter block's or set block's filters start from
  // What values point at without owning. A render's own, and bounded by its steps.
  std::vector<std::unique_ptr<Namespace>> namespaces_;
  std::vector<std::unique_ptr<Macro>> macros_;
  std::vector<std::unique_ptr<Loop>> loops_;
};

// loop.cc
bool next_item(Loop& loop, Value* item);
std::int64_t loop_length(Runtime& runtime, Loop& loop);
std::string loop_text(Runtime& runtime, Loop& loop);
// Nothing when there is no such attribute.
std::optional<Value> loop_attribute(Runtime& runtime, Loop& loop, std::string_view name);
bool is_loop_method(std::string_view name);
Value call_loop_method(Runtime& runtime, Loop& loop, const std::string& name,
                       const CallArguments& arguments);

// from_json.cc: nothing when the value nests too deeply.
bool from_json(const json::Value& json, int max_depth, Value* out);

}  // namespace liquidgemm::chat

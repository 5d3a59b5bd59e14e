// Filters, tests, methods and operators: everything that computes a value from values.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/chat/ast.h"
#include "model/chat/runtime.h"
#include "model/chat/value.h"

namespace liquidgemm::chat {

// The evaluated arguments of one call.
struct CallArguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

// A call's arguments under the names of its parameters. Unknown, repeated and missing ones are
// errors. Parameters up to `required` must be given.
class Parameters {
 public:
  Parameters(Runtime& runtime, std::string_view function, const CallArguments& arguments,
             std::initializer_list<std::string_view> names, std::size_t required = 0);

  bool ok() const { return !runtime_.failed(); }
  bool given(std::size_t index) const { return values_[index] != nullptr; }
  // Undefined when not given.
  const Value& operator[](std::size_t index) const;
  // With a default; a value of another type is an error.
  std::int64_t integer(std::size_t index, std::int64_t otherwise);
  std::string string(std::size_t index, std::string_view otherwise);
  bool truth(std::size_t index, bool otherwise);

 private:
  Runtime& runtime_;
  const std::string function_;
  std::vector<const Value*> values_;
};

// filters.cc, tests.cc
bool is_filter(std::string_view name);
bool is_test(std::string_view name);
Value apply_filter(Runtime& runtime, const std::string& name, const Value& value,
                   const CallArguments& arguments);
bool apply_test(Runtime& runtime, const std::string& name, const Value& value,
                const CallArguments& arguments);

// text_filters.cc, sequence_filters.cc: nullptr when the name is not theirs.
using Filter = Value (*)(Runtime&, const Value&, const CallArguments&);
Filter find_text_filter(std::string_view name);
Filter find_sequence_filter(std::string_view name);
// What a path such as "function.name" leads to.
Value look_up_path(Runtime& runtime, const Value& item, const Value& path);

// methods.cc, string_methods.cc
bool has_method(const Value& value, std::string_view name);
bool changes_value(const Value& value, std::string_view name);  // list.append and its like
Value call_method(Runtime& runtime, const Value& self, const std::string& name,
                  const CallArguments& arguments);
bool is_string_method(std::string_view name);
Value call_string_method(Runtime& runtime, const Value& self, const std::string& name,
                         const CallArguments& arguments);

// access.cc: items and attributes, as the sandbox grants them.
Value get_attribute(Runtime& runtime, const Value& value, const std::string& name);
Value get_item(Runtime& runtime, const Value& value, const Value& key);
Value get_slice(Runtime& runtime, const Value& value, const Value& start, const Value& stop,
                const Value& step);

// operators.cc
bool truth(const Value& value);
bool equal(Runtime& runtime, const Value& a, const Value& b);
// a < b; another type is an error.
bool less(Runtime& runtime, const Value& a, const Value& b, std::string_view op = "<");
bool contains(Runtime& runtime, const Value& container, const Value& item);
bool compare(Runtime& runtime, Operator op, const Value& a, const Value& b);
Value arithmetic(Runtime& runtime, Operator op, const Value& a, const Value& b);
Value negate(Runtime& runtime, const Value& value);
Value length_of(Runtime& runtime, const Value& value);

// printing.cc: Python's str() and repr(), and json.dumps.
std::string to_text(Runtime& runtime, const Value& value);
std::string to_repr(Runtime& runtime, const Value& value);
std::string real_text(double value);
std::string escape_html(std::string_view text);
struct JsonStyle {
  bool pretty = false;
  std::string indent;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
  bool ascii = false;
};
std::string to_json(Runtime& runtime, const Value& value, const JsonStyle& style);

// formatting.cc: "%s" % x and "{}".format(x)
Value format_percent(Runtime& runtime, const std::string& format, const Value& arguments);
Value format_braces(Runtime& runtime, const std::string& format, const CallArguments& arguments);

}  // namespace liquidgemm::chat

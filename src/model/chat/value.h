// The values that a chat template computes with: Python's, as far as templates see them.
//
// Lists, tuples and dicts cannot change once made (the sandbox allows no mutation), so they are
// shared by reference count and can contain no cycle. Each knows how deep it nests; the runtime
// refuses deeper ones, which bounds every recursion over values, destruction included.
// Namespaces, loops and macros do change: they live in the interpreter's arena until the render
// ends, and a Value only points at them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace liquidgemm::chat {

class Value;
struct Namespace;
struct Macro;
struct Loop;

enum class Kind : std::uint8_t {
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,
  kTuple,
  kView,       // what d.keys(), d.values() and d.items() return
  kGenerator,  // what map, select and their like return: can be walked once
  kDict,
  kRange,
  kMethod,    // "abc".upper without a call
  kFunction,  // range, namespace, raise_exception, ...
  kNamespace,
  kMacro,
  kLoop,
};

enum class Function : std::uint8_t { kRange, kDict, kNamespace, kRaiseException, kStrftimeNow };

struct Sequence {
  std::vector<Value> items;
  const char* label = "";        // of a view: "dict_keys", ...
  mutable std::size_t next = 0;  // of a generator: the first item not yet taken
  int depth = 1;
};

struct Range {
  std::int64_t start = 0;
  std::int64_t stop = 0;
  std::int64_t step = 1;
  std::int64_t size() const;
};

struct Dict;
struct Method;

class Value {
 public:
  Value() = default;  // undefined, without a message

  // `message` is what an operation that an undefined value does not allow will report.
  static Value undefined(std::string message);
  static Value none() { return Value(Kind::kNone); }
  static Value boolean(bool value);
  static Value integer(std::int64_t value);
  static Value real(double value);
  static Value string(std::string value);
  static Value markup(std::string value);  // text that counts as escaped already
  static Value sequence(Kind kind, std::vector<Value> items, const char* label = "");
  static Value dict(std::shared_ptr<Dict> dict);
  static Value range(Range range);
  static Value method(Value self, std::string name);
  static Value function(Function function);
  static Value reference(Namespace* value) { return Value(Kind::kNamespace, value); }
  static Value reference(Macro* value) { return Value(Kind::kMacro, value); }
  static Value reference(Loop* value) { return Value(Kind::kLoop, value); }

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool is_integral() const { return kind_ == Kind::kInt || kind_ == Kind::kBool; }
  bool is_number() const { return is_integral() || kind_ == Kind::kFloat; }
  bool is_markup() const { return markup_; }

  // Each may be asked only of the kinds it names.
  bool as_bool() const { return scalar_.integer != 0; }
  std::int64_t as_int() const { return scalar_.integer; }  // of booleans too
  double as_real() const;                                  // of every number
  const std::string& as_string() const { return *static_cast<const std::string*>(data_.get()); }
  const Sequence& as_sequence() const { return *static_cast<const Sequence*>(data_.get()); }
  const std::vector<Value>& items() const { return as_sequence().items; }
  const Dict& as_dict() const { return *static_cast<const Dict*>(data_.get()); }
  const Range& as_range() const { return *static_cast<const Range*>(data_.get()); }
  const Method& as_method() const { return *static_cast<const Method*>(data_.get()); }
  Function as_function() const { return static_cast<Function>(scalar_.integer); }
  Namespace* as_namespace() const { return static_cast<Namespace*>(scalar_.reference); }
  Macro* as_macro() const { return static_cast<Macro*>(scalar_.reference); }
  Loop* as_loop() const { return static_cast<Loop*>(scalar_.reference); }

  const std::string& undefined_message() const;
  int depth() const;
  // The same object, as Python's `is` asks.
  bool same_as(const Value& other) const;
  // "str", "list", ...: the name that messages use.
  const char* type_name() const;

 private:
  explicit Value(Kind kind) : kind_(kind) {}
  Value(Kind kind, void* reference) : kind_(kind) { scalar_.reference = reference; }

  Kind kind_ = Kind::kUndefined;
  bool markup_ = false;
  union {
    std::int64_t integer = 0;
    double real;
    void* reference;
  } scalar_;
  std::shared_ptr<const void> data_;
};

// Keys in the order they came, as Python keeps them. Two keys that compare equal are one key.
struct Dict {
  std::vector<std::pair<Value, Value>> entries;
  int depth = 1;

  // Numbers, strings, None, undefined, and tuples of these. (Python would also take functions and
  // tuples of tuples; no template has a use for them, and this keeps a look-up's cost plain.)
  static bool hashable(const Value& key);
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  void set(Value key, Value value);

 private:
  static constexpr std::size_t kMissing = static_cast<std::size_t>(-1);
  std::size_t position(const Value& key) const;
  std::size_t position(std::string_view key) const;

  // From a text that is equal for equal keys; kept only for dicts that are slow to search.
  std::unordered_map<std::string, std::size_t> index_;
};

struct Method {
  Value self;
  std::string name;
  int depth = 1;
};

struct Namespace {
  Dict attributes;
};

}  // namespace liquidgemm::chat

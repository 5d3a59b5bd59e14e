// Methods of dicts, lists, tuples, ranges and loops.

#include <algorithm>
#include <array>

#include "model/chat/filters.h"
#include "model/chat/interpreter.h"

namespace liquidgemm::chat {
namespace {

template <std::size_t kSize>
bool one_of(const std::array<std::string_view, kSize>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

constexpr std::array<std::string_view, 4> kDictMethods = {"get", "items", "keys", "values"};
// What the sandbox refuses: a template may not change what it was given.
constexpr std::array<std::string_view, 5> kDictChanges = {"clear", "pop", "popitem", "setdefault",
                                                          "update"};
constexpr std::array<std::string_view, 8> kListChanges = {"append", "clear",  "extend",  "insert",
                                                          "pop",    "remove", "reverse", "sort"};

bool is_counted(const Value& value) {
  return value.is(Kind::kList) || value.is(Kind::kTuple) || value.is(Kind::kRange);
}

Value call_dict_method(Runtime& runtime, const Value& self, const std::string& name,
                       const CallArguments& arguments) {
  const Dict& dict = self.as_dict();
  if (name == "copy") return self;
  if (name == "get") {
    Parameters parameters(runtime, "dict.get", arguments, {"key", "default"}, 1);
    if (!parameters.ok()) return {};
    const Value& key = parameters[0];
    if (!Dict::hashable(key)) {
      return runtime.fail(std::string("unhashable type: '") + key.type_name() + "'");
    }
    if (!runtime.charge(key.is(Kind::kString) ? key.as_string().size() : 0)) return {};
    if (const Value* found = dict.find(key)) return *found;
    return parameters.given(1) ? parameters[1] : Value::none();
  }
  const Parameters parameters(runtime, "dict." + name, arguments, {});
  if (!parameters.ok() || !runtime.step(static_cast<std::int64_t>(dict.entries.size()))) return {};
  std::vector<Value> items;
  items.reserve(dict.entries.size());
  for (const auto& [key, value] : dict.entries) {
    if (name == "keys") {
      items.push_back(key);
    } else if (name == "values") {
      items.push_back(value);
    } else {
      items.push_back(runtime.sequence(Kind::kTuple, {key, value}));
    }
  }
  return runtime.sequence(Kind::kView, std::move(items),
                          name == "keys"     ? "dict_keys"
                          : name == "values" ? "dict_values"
                                             : "dict_items");
}

Value call_sequence_method(Runtime& runtime, const Value& self, const std::string& name,
                           const CallArguments& arguments) {
  if (name == "copy") return self;
  Parameters parameters(runtime, name, arguments, {"value", "start", "stop"}, 1);
  if (!parameters.ok()) return {};
  if (name == "count" && (parameters.given(1) || parameters.given(2))) {
    return runtime.fail("count takes one argument");
  }
  const std::vector<Value> items = collect(runtime, self);
  const auto size = static_cast<std::int64_t>(items.size());
  const auto place = [&](std::int64_t at) {
    return std::clamp<std::int64_t>(at < 0 ? std::max<std::int64_t>(at, -size) + size : at, 0,
                                    size);
  };
  const std::int64_t begin = place(parameters.integer(1, 0));
  const std::int64_t end = place(parameters.integer(2, size));
  std::int64_t count = 0;
  for (std::int64_t i = begin; i < end && !runtime.failed(); ++i) {
    if (!equal(runtime, items[static_cast<std::size_t>(i)], parameters[0])) continue;
    if (name == "index") return Value::integer(i);
    ++count;
  }
  if (name == "index") {
    return runtime.fail(to_repr(runtime, parameters[0]) + " is not in the " + self.type_name());
  }
  return Value::integer(count);
}

}  // namespace

bool changes_value(const Value& value, std::string_view name) {
  return (value.is(Kind::kDict) && one_of(kDictChanges, name)) ||
         (value.is(Kind::kList) && one_of(kListChanges, name));
}

bool has_method(const Value& value, std::string_view name) {
  if (value.is(Kind::kString)) return is_string_method(name);
  if (value.is(Kind::kLoop)) return is_loop_method(name);
  if (value.is(Kind::kDict)) {
    return one_of(kDictMethods, name) || one_of(kDictChanges, name) || name == "copy" ||
           name == "fromkeys";
  }
  if (is_counted(value) && (name == "count" || name == "index")) return true;
  return value.is(Kind::kList) && (name == "copy" || one_of(kListChanges, name));
}

Value call_method(Runtime& runtime, const Value& self, const std::string& name,
                  const CallArguments& arguments) {
  switch (self.kind()) {
    case Kind::kString: return call_string_method(runtime, self, name, arguments);
    case Kind::kLoop: return call_loop_method(runtime, *self.as_loop(), name, arguments);
    case Kind::kDict:
      if (name == "fromkeys") break;
      return call_dict_method(runtime, self, name, arguments);
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kRange: return call_sequence_method(runtime, self, name, arguments);
    default: break;
  }
  return runtime.fail(
      StatusCode::kUnsupported,
      "the method '" + name + "' of '" + self.type_name() + "' is not supported in chat templates");
}

}  // namespace liquidgemm::chat

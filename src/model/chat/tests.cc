// The tests of `x is ...`.

#include <cmath>

#include "model/chat/filters.h"
#include "model/chat/text.h"

namespace liquidgemm::chat {
namespace {

using Test = bool (*)(Runtime&, const Value&, const Value&);

bool is_cased(Runtime& runtime, const Value& value, bool upper) {
  const std::string text = to_text(runtime, value);
  if (!runtime.charge(text.size())) return false;
  bool any = false;
  for (std::size_t i = 0; i < text.size();) {
    const char32_t c = next_code_point(text, i);
    if (upper ? is_lower(c) : is_upper(c)) return false;
    any = any || (upper ? is_upper(c) : is_lower(c));
  }
  return any;
}

Value remainder(Runtime& runtime, const Value& value, const Value& divisor) {
  if (value.is(Kind::kString)) {  // % would format
    return runtime.fail("a number is needed, found str");
  }
  return arithmetic(runtime, Operator::kModulo, value, divisor);
}

bool has_remainder(Runtime& runtime, const Value& value, const Value& divisor,
                   std::int64_t wanted) {
  const Value rest = remainder(runtime, value, divisor);
  return !runtime.failed() && equal(runtime, rest, Value::integer(wanted));
}

template <Operator kOperator>
bool compares(Runtime& runtime, const Value& a, const Value& b) {
  return compare(runtime, kOperator, a, b);
}

struct Entry {
  std::string_view name;
  int arguments;
  Test test;
};

constexpr Entry kTests[] = {
    {"defined", 0, [](Runtime&, const Value& v, const Value&) { return !v.is(Kind::kUndefined); }},
    {"undefined", 0, [](Runtime&, const Value& v, const Value&) { return v.is(Kind::kUndefined); }},
    {"none", 0, [](Runtime&, const Value& v, const Value&) { return v.is(Kind::kNone); }},
    {"boolean", 0, [](Runtime&, const Value& v, const Value&) { return v.is(Kind::kBool); }},
    {"true", 0,
     [](Runtime&, const Value& v, const Value&) { return v.is(Kind::kBool) && v.as_bool(); }},
    {"false", 0,
     [](Runtime&, const Value& v, const Value&) { return v.is(Kind::kBool) && !v.as_bool(); }},
    {"integer", 0, [](Runtime&, const Value& v, const Value&) { return v.is(Kind::kInt); }},
    {"float", 0, [](Runtime&, const Value& v, const Value&) { return v.is(Kind::kFloat); }},
    {"number", 0, [](Runtime&, const Value& v, const Value&) { return v.is_number(); }},
    {"string", 0, [](Runtime&, const Value& v, const Value&) { return v.is(Kind::kString); }},
    {"mapping", 0, [](Runtime&, const Value& v, const Value&) { return v.is(Kind::kDict); }},
    {"sequence", 0,
     [](Runtime&, const Value& v, const Value&) {
       return v.is(Kind::kUndefined) || v.is(Kind::kString) || v.is(Kind::kList) ||
              v.is(Kind::kTuple) || v.is(Kind::kDict) || v.is(Kind::kRange);
     }},
    {"iterable", 0,
     [](Runtime&, const Value& v, const Value&) {
       return Iterator::iterable(v) || v.is(Kind::kLoop);
     }},
    {"callable", 0,
     [](Runtime&, const Value& v, const Value&) {
       return v.is(Kind::kUndefined) || v.is(Kind::kMethod) || v.is(Kind::kFunction) ||
              v.is(Kind::kMacro) || v.is(Kind::kLoop);
     }},
    {"lower", 0, [](Runtime& r, const Value& v, const Value&) { return is_cased(r, v, false); }},
    {"upper", 0, [](Runtime& r, const Value& v, const Value&) { return is_cased(r, v, true); }},
    {"odd", 0,
     [](Runtime& r, const Value& v, const Value&) {
       return has_remainder(r, v, Value::integer(2), 1);
     }},
    {"even", 0,
     [](Runtime& r, const Value& v, const Value&) {
       return has_remainder(r, v, Value::integer(2), 0);
     }},
    {"divisibleby", 1,
     [](Runtime& r, const Value& v, const Value& by) { return has_remainder(r, v, by, 0); }},
    {"escaped", 0, [](Runtime&, const Value& v, const Value&) { return v.is_markup(); }},
    {"sameas", 1, [](Runtime&, const Value& a, const Value& b) { return a.same_as(b); }},
    {"in", 1, [](Runtime& r, const Value& a, const Value& b) { return contains(r, b, a); }},
    {"filter", 0,
     [](Runtime&, const Value& v, const Value&) {
       return v.is(Kind::kString) && is_filter(v.as_string());
     }},
    {"test", 0,
     [](Runtime&, const Value& v, const Value&) {
       return v.is(Kind::kString) && is_test(v.as_string());
     }},
    {"==", 1, compares<Operator::kEqual>},
    {"eq", 1, compares<Operator::kEqual>},
    {"equalto", 1, compares<Operator::kEqual>},
    {"!=", 1, compares<Operator::kNotEqual>},
    {"ne", 1, compares<Operator::kNotEqual>},
    {">", 1, compares<Operator::kGreater>},
    {"gt", 1, compares<Operator::kGreater>},
    {"greaterthan", 1, compares<Operator::kGreater>},
    {">=", 1, compares<Operator::kGreaterEqual>},
    {"ge", 1, compares<Operator::kGreaterEqual>},
    {"<", 1, compares<Operator::kLess>},
    {"lt", 1, compares<Operator::kLess>},
    {"lessthan", 1, compares<Operator::kLess>},
    {"<=", 1, compares<Operator::kLessEqual>},
    {"le", 1, compares<Operator::kLessEqual>},
};

const Entry* find_test(std::string_view name) {
  for (const Entry& entry : kTests) {
    if (entry.name == name) return &entry;
  }
  return nullptr;
}

}  // namespace

bool is_test(std::string_view name) { return find_test(name) != nullptr; }

bool apply_test(Runtime& runtime, const std::string& name, const Value& value,
                const CallArguments& arguments) {
  const Entry* entry = find_test(name);
  if (entry == nullptr) {
    runtime.fail(StatusCode::kUnsupported, "there is no test named '" + name + "'");
    return false;
  }
  const auto given = arguments.positional.size() + arguments.named.size();
  if (given != static_cast<std::size_t>(entry->arguments)) {
    runtime.fail("the test '" + name + "' takes " + std::to_string(entry->arguments) +
                 " argument(s), found " + std::to_string(given));
    return false;
  }
  static const Value kNothing{};
  const Value& other = given == 0                     ? kNothing
                       : arguments.positional.empty() ? arguments.named[0].second
                                                      : arguments.positional[0];
  return entry->test(runtime, value, other);
}

}  // namespace liquidgemm::chat

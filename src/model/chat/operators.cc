// Python's operators on the values of a template.

#include <cmath>

#include "model/chat/filters.h"
#include "model/chat/interpreter.h"
#include "model/chat/text.h"

namespace liquidgemm::chat {
namespace {

const char* symbol(Operator op) {
  switch (op) {
    case Operator::kAdd: return "+";
    case Operator::kSubtract: return "-";
    case Operator::kMultiply: return "*";
    case Operator::kDivide: return "/";
    case Operator::kFloorDivide: return "//";
    case Operator::kModulo: return "%";
    case Operator::kPower: return "**";
    case Operator::kEqual: return "==";
    case Operator::kNotEqual: return "!=";
    case Operator::kLess: return "<";
    case Operator::kLessEqual: return "<=";
    case Operator::kGreater: return ">";
    case Operator::kGreaterEqual: return ">=";
    case Operator::kIn: return "in";
    case Operator::kNotIn: return "not in";
  }
  return "?";
}

Value wrong_types(Runtime& runtime, Operator op, const Value& a, const Value& b) {
  return runtime.fail(std::string("unsupported operand types for ") + symbol(op) + ": '" +
                      a.type_name() + "' and '" + b.type_name() + "'");
}

// Integers up to 64 bits compare exactly with doubles in a long double.
long double exact(const Value& value) {
  return value.is_integral() ? static_cast<long double>(value.as_int())
                             : static_cast<long double>(value.as_real());
}

bool both(const Value& a, const Value& b, Kind kind) { return a.is(kind) && b.is(kind); }

Value overflow(Runtime& runtime) { return runtime.fail("an integer does not fit in 64 bits"); }

Value integer_power(Runtime& runtime, std::int64_t base, std::int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) return runtime.fail("0 cannot be raised to a negative power");
    return Value::real(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  std::int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) {
      return overflow(runtime);
    }
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) return overflow(runtime);
  }
  return Value::integer(result);
}

Value integer_arithmetic(Runtime& runtime, Operator op, std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  switch (op) {
    case Operator::kAdd:
      return __builtin_add_overflow(a, b, &result) ? overflow(runtime) : Value::integer(result);
    case Operator::kSubtract:
      return __builtin_sub_overflow(a, b, &result) ? overflow(runtime) : Value::integer(result);
    case Operator::kMultiply:
      return __builtin_mul_overflow(a, b, &result) ? overflow(runtime) : Value::integer(result);
    case Operator::kPower: return integer_power(runtime, a, b);
    default: break;
  }
  if (b == 0) return runtime.fail("division by zero");
  if (op == Operator::kDivide) {
    return Value::real(static_cast<double>(static_cast<long double>(a) / b));
  }
  if (b == -1) {  // the one quotient that can overflow
    if (op == Operator::kModulo) return Value::integer(0);
    return __builtin_sub_overflow(std::int64_t{0}, a, &result) ? overflow(runtime)
                                                               : Value::integer(result);
  }
  const std::int64_t remainder = a % b;
  const bool below = remainder != 0 && (remainder < 0) != (b < 0);  // Python rounds down
  if (op == Operator::kModulo) return Value::integer(below ? remainder + b : remainder);
  return Value::integer(a / b - (below ? 1 : 0));
}

Value real_arithmetic(Runtime& runtime, Operator op, double a, double b) {
  switch (op) {
    case Operator::kAdd: return Value::real(a + b);
    case Operator::kSubtract: return Value::real(a - b);
    case Operator::kMultiply: return Value::real(a * b);
    case Operator::kPower: {
      if (a == 0 && b < 0) return runtime.fail("0.0 cannot be raised to a negative power");
      if (a < 0 && std::isfinite(b) && b != std::floor(b)) {
        return runtime.fail("a negative number has no real power with a fraction");
      }
      const double result = std::pow(a, b);
      if (std::isinf(result) && std::isfinite(a) && std::isfinite(b)) {
        return runtime.fail("the result of ** is too large");
      }
      return Value::real(result);
    }
    default: break;
  }
  if (b == 0) return runtime.fail("division by zero");
  if (op == Operator::kDivide) return Value::real(a / b);
  double remainder = std::fmod(a, b);
  double quotient = (a - remainder) / b;
  if (remainder != 0) {
    if ((b < 0) != (remainder < 0)) {
      remainder += b;
      quotient -= 1;
    }
  } else {
    remainder = std::copysign(0.0, b);
  }
  if (op == Operator::kModulo) return Value::real(remainder);
  if (quotient == 0) return Value::real(std::copysign(0.0, a / b));
  const double whole = std::floor(quotient);
  return Value::real(quotient - whole > 0.5 ? whole + 1 : whole);
}

// Text or a list, `count` times. The size is checked before anything is made.
Value repeat(Runtime& runtime, const Value& value, std::int64_t count) {
  const std::size_t times = count > 0 ? static_cast<std::size_t>(count) : 0;
  const std::size_t size =
      value.is(Kind::kString) ? value.as_string().size() : value.items().size();
  std::size_t total = 0;
  if (__builtin_mul_overflow(size, times, &total)) total = SIZE_MAX;
  if (value.is(Kind::kString)) {
    if (!runtime.fits(total)) return {};
    std::string out;
    out.reserve(total);
    for (std::size_t i = 0; i < times && size > 0; ++i) out += value.as_string();
    return runtime.text(std::move(out), value.is_markup());
  }
  if (!runtime.step(static_cast<std::int64_t>(
          std::min<std::size_t>(total, static_cast<std::size_t>(INT64_MAX / 4))))) {
    return {};
  }
  std::vector<Value> items;
  items.reserve(total);
  for (std::size_t i = 0; i < times && size > 0; ++i) {
    items.insert(items.end(), value.items().begin(), value.items().end());
  }
  return runtime.sequence(value.kind(), std::move(items));
}

Value join_texts(Runtime& runtime, const Value& a, const Value& b) {
  // Escaped text stays escaped: what is added to it is escaped first, as Markup does.
  const bool markup = a.is_markup() || b.is_markup();
  const auto part = [&](const Value& value) {
    return markup && !value.is_markup() ? escape_html(value.as_string()) : value.as_string();
  };
  if (!runtime.fits(a.as_string().size() + b.as_string().size())) return {};
  if (!markup) return Value::string(a.as_string() + b.as_string());
  return runtime.text(part(a) + part(b), true);
}

Value join_sequences(Runtime& runtime, const Value& a, const Value& b) {
  if (!runtime.step(static_cast<std::int64_t>(a.items().size() + b.items().size()))) return {};
  std::vector<Value> items = a.items();
  items.insert(items.end(), b.items().begin(), b.items().end());
  return runtime.sequence(a.kind(), std::move(items));
}

bool equal_items(Runtime& runtime, const std::vector<Value>& a, const std::vector<Value>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!equal(runtime, a[i], b[i])) return false;
  }
  return true;
}

bool equal_dicts(Runtime& runtime, const Dict& a, const Dict& b) {
  if (a.entries.size() != b.entries.size()) return false;
  for (const auto& [key, value] : a.entries) {
    const Value* other = b.find(key);
    if (other == nullptr || !equal(runtime, value, *other)) return false;
  }
  return true;
}

}  // namespace

bool truth(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kNone: return false;
    case Kind::kBool:
    case Kind::kInt: return value.as_int() != 0;
    case Kind::kFloat: return value.as_real() != 0;
    case Kind::kString: return !value.as_string().empty();
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kView: return !value.items().empty();
    case Kind::kDict: return !value.as_dict().entries.empty();
    case Kind::kRange: return value.as_range().size() > 0;
    default: return true;
  }
}

bool equal(Runtime& runtime, const Value& a, const Value& b) {
  if (!runtime.step()) return false;
  if (a.is_number() && b.is_number()) return exact(a) == exact(b);
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kUndefined:
    case Kind::kNone: return true;
    case Kind::kString:
      runtime.charge(std::min(a.as_string().size(), b.as_string().size()));
      return a.as_string() == b.as_string();
    case Kind::kList:
    case Kind::kTuple: return equal_items(runtime, a.items(), b.items());
    case Kind::kDict: return equal_dicts(runtime, a.as_dict(), b.as_dict());
    case Kind::kRange: {
      const Range& x = a.as_range();
      const Range& y = b.as_range();
      if (x.size() != y.size() || x.size() == 0) return x.size() == y.size();
      return x.start == y.start && (x.size() == 1 || x.step == y.step);
    }
    default: return a.same_as(b);
  }
}

bool less(Runtime& runtime, const Value& a, const Value& b, std::string_view op) {
  if (!runtime.step()) return false;
  if (a.is_number() && b.is_number()) return exact(a) < exact(b);
  if (both(a, b, Kind::kString)) {
    runtime.charge(std::min(a.as_string().size(), b.as_string().size()));
    return a.as_string() < b.as_string();  // UTF-8 sorts as its code points do
  }
  if (both(a, b, Kind::kList) || both(a, b, Kind::kTuple)) {
    const std::size_t common = std::min(a.items().size(), b.items().size());
    for (std::size_t i = 0; i < common; ++i) {
      if (!equal(runtime, a.items()[i], b.items()[i])) {
        return less(runtime, a.items()[i], b.items()[i], op);
      }
    }
    return a.items().size() < b.items().size();
  }
  if (a.is(Kind::kUndefined)) {
    runtime.fail_undefined(a);
  } else if (b.is(Kind::kUndefined)) {
    runtime.fail_undefined(b);
  } else {
    runtime.fail("'" + std::string(op) + "' not supported between '" + a.type_name() + "' and '" +
                 b.type_name() + "'");
  }
  return false;
}

bool contains(Runtime& runtime, const Value& container, const Value& item) {
  switch (container.kind()) {
    case Kind::kString:
      if (!item.is(Kind::kString)) {
        runtime.fail(std::string("'in <string>' needs a string on its left, not ") +
                     item.type_name());
        return false;
      }
      runtime.charge(container.as_string().size() + item.as_string().size());
      return find_text(container.as_string(), item.as_string()) != std::string::npos;
    case Kind::kDict:
      if (!Dict::hashable(item)) {
        runtime.fail(std::string("unhashable type: '") + item.type_name() + "'");
        return false;
      }
      runtime.charge(item.is(Kind::kString) ? item.as_string().size() : 0);
      return container.as_dict().find(item) != nullptr;
    default: break;
  }
  if (!Iterator::iterable(container)) {
    runtime.fail(std::string("argument of type '") + container.type_name() + "' is not iterable");
    return false;
  }
  Iterator iterator(runtime, container);
  Value candidate;
  while (iterator.next(&candidate)) {
    if (candidate.same_as(item) || equal(runtime, candidate, item)) return true;
  }
  return false;
}

bool compare(Runtime& runtime, Operator op, const Value& a, const Value& b) {
  switch (op) {
    case Operator::kEqual: return equal(runtime, a, b);
    case Operator::kNotEqual: return !equal(runtime, a, b);
    case Operator::kIn: return contains(runtime, b, a);
    case Operator::kNotIn: return !contains(runtime, b, a);
    case Operator::kLess: return less(runtime, a, b, "<");
    case Operator::kGreater: return less(runtime, b, a, ">");
    default: break;
  }
  // <= of two lists is < of the first items that differ, so it is "less or equal", not "not more":
  // with a NaN neither holds.
  const bool at_most = op == Operator::kLessEqual;
  return (at_most ? less(runtime, a, b, "<=") : less(runtime, b, a, ">=")) ||
         (!runtime.failed() && equal(runtime, a, b));
}

Value arithmetic(Runtime& runtime, Operator op, const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) {
    return integer_arithmetic(runtime, op, a.as_int(), b.as_int());
  }
  if (a.is_number() && b.is_number()) {
    return real_arithmetic(runtime, op, a.as_real(), b.as_real());
  }
  if (a.is(Kind::kString) && op == Operator::kModulo) {
    return format_percent(runtime, a.as_string(), b);
  }
  if (a.is(Kind::kUndefined)) return runtime.fail_undefined(a);
  if (b.is(Kind::kUndefined)) return runtime.fail_undefined(b);
  if (op == Operator::kAdd) {
    if (both(a, b, Kind::kString)) return join_texts(runtime, a, b);
    if (both(a, b, Kind::kList) || both(a, b, Kind::kTuple)) {
      return join_sequences(runtime, a, b);
    }
  }
  if (op == Operator::kMultiply) {
    const auto repeatable = [](const Value& value) {
      return value.is(Kind::kString) || value.is(Kind::kList) || value.is(Kind::kTuple);
    };
    if (repeatable(a) && b.is_integral()) return repeat(runtime, a, b.as_int());
    if (a.is_integral() && repeatable(b)) return repeat(runtime, b, a.as_int());
  }
  return wrong_types(runtime, op, a, b);
}

Value negate(Runtime& runtime, const Value& value) {
  if (value.is(Kind::kUndefined)) return runtime.fail_undefined(value);
  if (value.is(Kind::kFloat)) return Value::real(-value.as_real());
  if (value.is_integral()) {
    return integer_arithmetic(runtime, Operator::kSubtract, 0, value.as_int());
  }
  return runtime.fail(std::string("bad operand type for unary -: '") + value.type_name() + "'");
}

Value length_of(Runtime& runtime, const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined: return Value::integer(0);
    case Kind::kString:
      if (!runtime.charge(value.as_string().size())) return {};
      return Value::integer(static_cast<std::int64_t>(count_code_points(value.as_string())));
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kView: return Value::integer(static_cast<std::int64_t>(value.items().size()));
    case Kind::kDict:
      return Value::integer(static_cast<std::int64_t>(value.as_dict().entries.size()));
    case Kind::kRange: return Value::integer(value.as_range().size());
    case Kind::kLoop: return Value::integer(loop_length(runtime, *value.as_loop()));
    default:
      return runtime.fail(std::string("object of type '") + value.type_name() + "' has no length");
  }
}

}  // namespace liquidgemm::chat

#include "model/chat/value.h"

#include <algorithm>
#include <cmath>

namespace liquidgemm::chat {
namespace {

// From this many entries on a dict keeps a hash index.
constexpr std::size_t kIndexedSize = 12;

std::string string_key_text(std::string_view key) { return "s" + std::string(key); }

// A text that is equal for equal keys: numbers by value whatever their type, tuples by item.
std::string key_text(const Value& key) {
  switch (key.kind()) {
    case Kind::kString: return string_key_text(key.as_string());
    case Kind::kBool:
    case Kind::kInt: return "i" + std::to_string(key.as_int());
    case Kind::kFloat: {
      const double value = key.as_real();
      if (value == std::floor(value) && std::abs(value) < 9e18) {
        return "i" + std::to_string(static_cast<std::int64_t>(value));
      }
      std::string text("f");
      text.append(reinterpret_cast<const char*>(&value), sizeof(value));
      return text;
    }
    case Kind::kNone: return "n";
    case Kind::kUndefined: return "u";
    case Kind::kTuple: {
      std::string text = "t";
      for (const Value& item : key.items()) {
        const std::string part = key_text(item);
        text += std::to_string(part.size()) + ":" + part;
      }
      return text;
    }
    default: return {};  // not hashable, so never asked
  }
}

}  // namespace

std::int64_t Range::size() const {
  // Unsigned, because stop - start may not fit in 64 signed bits.
  const auto low = static_cast<std::uint64_t>(step > 0 ? start : stop);
  const auto high = static_cast<std::uint64_t>(step > 0 ? stop : start);
  if (step > 0 ? start >= stop : start <= stop) return 0;
  const std::uint64_t width =
      step > 0 ? static_cast<std::uint64_t>(step) : 0 - static_cast<std::uint64_t>(step);
  const std::uint64_t count = (high - low - 1) / width + 1;
  return static_cast<std::int64_t>(std::min<std::uint64_t>(count, INT64_MAX));
}

Value Value::undefined(std::string message) {
  Value value;
  value.data_ = std::make_shared<const std::string>(std::move(message));
  return value;
}

Value Value::boolean(bool boolean) {
  Value value(Kind::kBool);
  value.scalar_.integer = boolean ? 1 : 0;
  return value;
}

Value Value::integer(std::int64_t integer) {
  Value value(Kind::kInt);
  value.scalar_.integer = integer;
  return value;
}

Value Value::real(double real) {
  Value value(Kind::kFloat);
  value.scalar_.real = real;
  return value;
}

Value Value::string(std::string text) {
  Value value(Kind::kString);
  value.data_ = std::make_shared<const std::string>(std::move(text));
  return value;
}

Value Value::markup(std::string text) {
  Value value = string(std::move(text));
  value.markup_ = true;
  return value;
}

Value Value::sequence(Kind kind, std::vector<Value> items, const char* label) {
  auto data = std::make_shared<Sequence>();
  data->items = std::move(items);
  data->label = label;
  for (const Value& item : data->items) data->depth = std::max(data->depth, item.depth() + 1);
  Value value(kind);
  value.data_ = std::move(data);
  return value;
}

Value Value::dict(std::shared_ptr<Dict> dict) {
  Value value(Kind::kDict);
  value.data_ = std::move(dict);
  return value;
}

Value Value::range(Range range) {
  Value value(Kind::kRange);
  value.data_ = std::make_shared<const Range>(range);
  return value;
}

Value Value::method(Value self, std::string name) {
  const int depth = self.depth() + 1;
  Value value(Kind::kMethod);
  value.data_ = std::make_shared<const Method>(Method{std::move(self), std::move(name), depth});
  return value;
}

Value Value::function(Function function) {
  Value value(Kind::kFunction);
  value.scalar_.integer = static_cast<std::int64_t>(function);
  return value;
}

double Value::as_real() const {
  return kind_ == Kind::kFloat ? scalar_.real : static_cast<double>(scalar_.integer);
}

const std::string& Value::undefined_message() const {
  static const std::string kPlain = "the value is undefined";
  return data_ ? as_string() : kPlain;
}

int Value::depth() const {
  switch (kind_) {
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kView:
    case Kind::kGenerator: return as_sequence().depth;
    case Kind::kDict: return as_dict().depth;
    case Kind::kMethod: return as_method().depth;
    default: return 0;
  }
}

bool Value::same_as(const Value& other) const {
  if (kind_ != other.kind_) return false;
  switch (kind_) {
    case Kind::kNone: return true;
    case Kind::kBool:
    case Kind::kInt:
    case Kind::kFunction: return scalar_.integer == other.scalar_.integer;
    case Kind::kNamespace:
    case Kind::kMacro:
    case Kind::kLoop: return scalar_.reference == other.scalar_.reference;
    case Kind::kFloat: return false;
    default: return data_ == other.data_;
  }
}

const char* Value::type_name() const {
  switch (kind_) {
    case Kind::kUndefined: return "Undefined";
    case Kind::kNone: return "NoneType";
    case Kind::kBool: return "bool";
    case Kind::kInt: return "int";
    case Kind::kFloat: return "float";
    case Kind::kString: return markup_ ? "Markup" : "str";
    case Kind::kList: return "list";
    case Kind::kTuple: return "tuple";
    case Kind::kView: return as_sequence().label;
    case Kind::kGenerator: return "generator";
    case Kind::kDict: return "dict";
    case Kind::kRange: return "range";
    case Kind::kMethod: return "builtin_function_or_method";
    case Kind::kFunction: return "function";
    case Kind::kNamespace: return "Namespace";
    case Kind::kMacro: return "Macro";
    case Kind::kLoop: return "LoopContext";
  }
  return "object";
}

bool Dict::hashable(const Value& key) {
  const auto simple = [](const Value& value) {
    return value.is_number() || value.is(Kind::kString) || value.is(Kind::kNone) ||
           value.is(Kind::kUndefined);
  };
  if (key.is(Kind::kTuple)) return std::all_of(key.items().begin(), key.items().end(), simple);
  return simple(key);
}

std::size_t Dict::position(const Value& key) const {
  if (key.is(Kind::kString)) return position(std::string_view(key.as_string()));
  const std::string text = key_text(key);
  if (!index_.empty()) {
    const auto found = index_.find(text);
    return found == index_.end() ? kMissing : found->second;
  }
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (!entries[i].first.is(Kind::kString) && key_text(entries[i].first) == text) return i;
  }
  return kMissing;
}

std::size_t Dict::position(std::string_view key) const {
  if (!index_.empty()) {
    const auto found = index_.find(string_key_text(key));
    return found == index_.end() ? kMissing : found->second;
  }
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const Value& name = entries[i].first;
    if (name.is(Kind::kString) && name.as_string() == key) return i;
  }
  return kMissing;
}

const Value* Dict::find(const Value& key) const {
  const std::size_t at = position(key);
  return at == kMissing ? nullptr : &entries[at].second;
}

const Value* Dict::find(std::string_view key) const {
  const std::size_t at = position(key);
  return at == kMissing ? nullptr : &entries[at].second;
}

void Dict::set(Value key, Value value) {
  depth = std::max({depth, key.depth() + 1, value.depth() + 1});
  const std::size_t at = position(key);
  if (at != kMissing) {
    entries[at].second = std::move(value);
    return;
  }
  if (!index_.empty()) index_.emplace(key_text(key), entries.size());
  entries.emplace_back(std::move(key), std::move(value));
  if (index_.empty() && entries.size() >= kIndexedSize) {
    for (std::size_t i = 0; i < entries.size(); ++i) index_.emplace(key_text(entries[i].first), i);
  }
}

}  // namespace liquidgemm::chat

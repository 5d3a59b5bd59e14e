// Attributes, items and slices. An attribute that exists but is not granted (__class__, append)
// reads as undefined, and using it is the error, as in Jinja's sandbox.

#include <algorithm>

#include "model/chat/filters.h"
#include "model/chat/interpreter.h"
#include "model/chat/text.h"

namespace liquidgemm::chat {
namespace {

std::string object_name(const Value& value) {
  if (value.is(Kind::kNone)) return "None";
  if (value.is(Kind::kNamespace)) return "jinja2.utils.Namespace object";
  if (value.is(Kind::kLoop)) return "jinja2.runtime.LoopContext object";
  return std::string(value.type_name()) + " object";
}

Value no_attribute(const Value& value, const std::string& name) {
  return Value::undefined("'" + object_name(value) + "' has no attribute '" + name + "'");
}

Value unsafe_attribute(const Value& value, const std::string& name) {
  return Value::undefined("access to attribute '" + name + "' of '" + value.type_name() +
                          "' object is unsafe");
}

// What Python's getattr finds; false when it finds nothing.
bool python_attribute(Runtime& runtime, const Value& value, const std::string& name, Value* out) {
  if (name.starts_with("__")) {
    *out = unsafe_attribute(value, name);
    return true;
  }
  if (value.is(Kind::kNamespace)) {
    const Value* found = value.as_namespace()->attributes.find(name);
    if (found == nullptr) return false;
    *out = name.starts_with("_") ? unsafe_attribute(value, name) : *found;
    return true;
  }
  if (value.is(Kind::kLoop)) {
    if (auto found = loop_attribute(runtime, *value.as_loop(), name)) {
      *out = std::move(*found);
      return true;
    }
  }
  if (value.is(Kind::kRange) && (name == "start" || name == "stop" || name == "step")) {
    const Range& range = value.as_range();
    *out = Value::integer(name == "start" ? range.start : name == "stop" ? range.stop : range.step);
    return true;
  }
  if (!has_method(value, name)) return false;
  *out = changes_value(value, name) ? unsafe_attribute(value, name) : Value::method(value, name);
  return true;
}

bool is_indexed(const Value& value) {
  return value.is(Kind::kList) || value.is(Kind::kTuple) || value.is(Kind::kString) ||
         value.is(Kind::kRange);
}

std::string one_character(Runtime& runtime, const std::string& text, std::int64_t index,
                          bool* found) {
  *found = false;
  if (is_ascii(text)) {
    const auto size = static_cast<std::int64_t>(text.size());
    if (index < 0) index += size;
    *found = index >= 0 && index < size;
    return *found ? text.substr(static_cast<std::size_t>(index), 1) : std::string();
  }
  if (!runtime.charge(text.size() * 8)) return {};
  const auto offsets = code_point_offsets(text);
  const auto size = static_cast<std::int64_t>(offsets.size()) - 1;
  if (index < 0) index += size;
  *found = index >= 0 && index < size;
  if (!*found) return {};
  const auto at = static_cast<std::size_t>(index);
  return text.substr(offsets[at], offsets[at + 1] - offsets[at]);
}

// An item by number; false when there is none.
bool indexed_item(Runtime& runtime, const Value& value, std::int64_t index, Value* out) {
  if (value.is(Kind::kString)) {
    if (!runtime.charge(value.as_string().size())) return false;
    bool found = false;
    std::string one = one_character(runtime, value.as_string(), index, &found);
    if (found) *out = runtime.text(std::move(one), value.is_markup());
    return found;
  }
  const std::int64_t size = value.is(Kind::kRange)
                                ? value.as_range().size()
                                : static_cast<std::int64_t>(value.items().size());
  if (index < 0) index += size;
  if (index < 0 || index >= size) return false;
  *out = value.is(Kind::kRange)
             ? Value::integer(value.as_range().start + index * value.as_range().step)
             : value.items()[static_cast<std::size_t>(index)];
  return true;
}

// Python's slice.indices: where to start, and how many items to take.
struct Span {
  std::int64_t start = 0;
  std::int64_t count = 0;
  std::int64_t step = 1;
};

bool slice_bound(Runtime& runtime, const Value& value, std::int64_t otherwise, std::int64_t* out) {
  *out = otherwise;
  if (value.is(Kind::kNone)) return true;
  if (!value.is_integral()) {
    runtime.fail("slice indices must be integers or None, not " + std::string(value.type_name()));
    return false;
  }
  *out = value.as_int();
  return true;
}

bool make_span(Runtime& runtime, std::int64_t size, const Value& start, const Value& stop,
               const Value& step, Span* span) {
  if (!slice_bound(runtime, step, 1, &span->step)) return false;
  if (span->step == 0) {
    runtime.fail("slice step cannot be zero");
    return false;
  }
  // No list is as long as this, and with it no sum below can overflow.
  constexpr std::int64_t kFar = std::int64_t{1} << 40;
  span->step = std::clamp(span->step, -kFar, kFar);
  const bool forward = span->step > 0;
  const std::int64_t low = forward ? 0 : -1;
  const std::int64_t high = forward ? size : size - 1;
  const auto place = [&](std::int64_t at) {
    at = std::clamp(at, -kFar, kFar);
    return std::clamp(at < 0 ? at + size : at, low, high);
  };
  std::int64_t from = 0;
  std::int64_t to = 0;
  if (!slice_bound(runtime, start, 0, &from) || !slice_bound(runtime, stop, 0, &to)) return false;
  from = start.is(Kind::kNone) ? (forward ? low : high) : place(from);
  to = stop.is(Kind::kNone) ? (forward ? high : low) : place(to);
  span->start = from;
  const std::int64_t distance = forward ? to - from : from - to;
  const std::int64_t width = forward ? span->step : -span->step;
  span->count = distance <= 0 ? 0 : (distance - 1) / width + 1;
  return true;
}

}  // namespace

Value get_attribute(Runtime& runtime, const Value& value, const std::string& name) {
  if (value.is(Kind::kUndefined)) return runtime.fail_undefined(value);
  Value out;
  if (python_attribute(runtime, value, name, &out)) return out;
  if (value.is(Kind::kDict)) {
    if (const Value* found = value.as_dict().find(name)) return *found;
  }
  return no_attribute(value, name);
}

Value get_item(Runtime& runtime, const Value& value, const Value& key) {
  if (value.is(Kind::kUndefined)) return runtime.fail_undefined(value);
  if (value.is(Kind::kDict) && Dict::hashable(key)) {
    if (!runtime.charge(key.is(Kind::kString) ? key.as_string().size() : 0)) return {};
    if (const Value* found = value.as_dict().find(key)) return *found;
  }
  Value out;
  if (is_indexed(value) && key.is_integral()) {
    if (indexed_item(runtime, value, key.as_int(), &out)) return out;
  }
  if (key.is(Kind::kString)) {
    if (python_attribute(runtime, value, key.as_string(), &out)) return out;
    return no_attribute(value, key.as_string());
  }
  return Value::undefined(object_name(value) + " has no element " + to_repr(runtime, key));
}

Value get_slice(Runtime& runtime, const Value& value, const Value& start, const Value& stop,
                const Value& step) {
  if (value.is(Kind::kUndefined)) return runtime.fail_undefined(value);
  if (!is_indexed(value)) {
    return runtime.fail(std::string("'") + value.type_name() + "' object cannot be sliced");
  }
  Span span;
  if (value.is(Kind::kString)) {
    const std::string& text = value.as_string();
    if (!runtime.charge(text.size())) return {};
    const bool ascii = is_ascii(text);
    if (!ascii && !runtime.charge(text.size() * 8)) return {};
    const auto offsets = ascii ? std::vector<std::size_t>() : code_point_offsets(text);
    const auto size = static_cast<std::int64_t>(ascii ? text.size() : offsets.size() - 1);
    if (!make_span(runtime, size, start, stop, step, &span)) return {};
    std::string out;
    for (std::int64_t i = 0; i < span.count; ++i) {
      const auto at = static_cast<std::size_t>(span.start + i * span.step);
      if (ascii) {
        out.push_back(text[at]);
      } else {
        out.append(text, offsets[at], offsets[at + 1] - offsets[at]);
      }
    }
    return runtime.text(std::move(out), value.is_markup());
  }
  if (value.is(Kind::kRange)) {
    const Range& range = value.as_range();
    if (!make_span(runtime, range.size(), start, stop, step, &span)) return {};
    const std::int64_t width = range.step * (span.count > 1 ? span.step : 1);
    const std::int64_t from = range.start + span.start * range.step;
    return Value::range({from, from + span.count * width, width});
  }
  const auto& items = value.items();
  if (!make_span(runtime, static_cast<std::int64_t>(items.size()), start, stop, step, &span)) {
    return {};
  }
  if (!runtime.step(span.count)) return {};
  std::vector<Value> out;
  for (std::int64_t i = 0; i < span.count; ++i) {
    out.push_back(items[static_cast<std::size_t>(span.start + i * span.step)]);
  }
  return runtime.sequence(value.kind(), std::move(out));
}

}  // namespace liquidgemm::chat

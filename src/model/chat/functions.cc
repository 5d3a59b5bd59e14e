// The functions that a template may call by name.

#include <chrono>
#include <cstdio>
#include <ctime>

#include "model/chat/interpreter.h"
#include "model/chat/text.h"

namespace liquidgemm::chat {
namespace {

constexpr std::int64_t kMaxRange = 100'000;  // the sandbox's own limit
constexpr std::int64_t kFarthest = std::int64_t{1} << 60;
constexpr std::size_t kMaxTimeBytes = 4096;

// The local time, by strftime's rules. Python's %f, microseconds, is ours to fill in.
Value time_now(Runtime& runtime, const std::string& format) {
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  std::tm local{};
  if (localtime_r(&seconds, &local) == nullptr) return runtime.fail("the clock cannot be read");
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(
                          now - std::chrono::system_clock::from_time_t(seconds))
                          .count();
  char digits[24];
  std::snprintf(digits, sizeof(digits), "%06lld", static_cast<long long>(micros));
  std::string full;
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] == '%' && i + 1 < format.size()) {
      const char code = format[++i];
      full += code == 'f' ? std::string(digits) : std::string{'%', code};
    } else if (format[i] != '\0') {
      full.push_back(format[i]);
    }
  }
  if (full.size() > kMaxTimeBytes) return runtime.fail("strftime_now: the format is too long");
  // The space keeps an empty result apart from one that does not fit.
  full.push_back(' ');
  std::string out(2 * kMaxTimeBytes, '\0');
  const std::size_t size = std::strftime(out.data(), out.size(), full.c_str(), &local);
  if (size == 0) return runtime.fail("strftime_now: the result is too long");
  out.resize(size - 1);
  return runtime.text(std::move(out));
}

}  // namespace

Value Interpreter::call_function(Function function, const CallArguments& arguments) {
  switch (function) {
    case Function::kRange: return make_range(arguments);
    case Function::kDict: return make_dict(arguments);
    case Function::kNamespace: return make_namespace(arguments);
    case Function::kRaiseException: {
      Parameters parameters(runtime_, "raise_exception", arguments, {"message"}, 1);
      if (!parameters.ok()) return {};
      return runtime_.fail(to_text(runtime_, parameters[0]));
    }
    case Function::kStrftimeNow: {
      Parameters parameters(runtime_, "strftime_now", arguments, {"format"}, 1);
      const std::string format = parameters.string(0, "");
      return parameters.ok() ? time_now(runtime_, format) : Value();
    }
  }
  return {};
}

Value Interpreter::make_range(const CallArguments& arguments) {
  const auto& given = arguments.positional;
  if (!arguments.named.empty() || given.empty() || given.size() > 3) {
    return runtime_.fail("range takes one to three numbers");
  }
  for (const Value& value : given) {
    if (value.is(Kind::kUndefined)) return runtime_.fail_undefined(value);
    if (!value.is_integral()) {
      return runtime_.fail(std::string("range needs integers, found ") + value.type_name());
    }
    // Far enough, and near enough that no item or slice of a range can overflow.
    if (value.as_int() > kFarthest || value.as_int() < -kFarthest) {
      return runtime_.fail(StatusCode::kResourceExhausted, "a number in range is too large");
    }
  }
  Range range;
  if (given.size() == 1) {
    range.stop = given[0].as_int();
  } else {
    range.start = given[0].as_int();
    range.stop = given[1].as_int();
    if (given.size() == 3) range.step = given[2].as_int();
  }
  if (range.step == 0) return runtime_.fail("range: the step must not be zero");
  if (range.size() > kMaxRange) {
    return runtime_.fail(StatusCode::kResourceExhausted,
                         "a range of more than " + std::to_string(kMaxRange) + " items");
  }
  return Value::range(range);
}

Value Interpreter::make_dict(const CallArguments& arguments) {
  auto dict = std::make_shared<Dict>();
  if (arguments.positional.size() > 1) return runtime_.fail("dict takes at most one mapping");
  if (!arguments.positional.empty()) {
    const Value& from = arguments.positional[0];
    if (from.is(Kind::kDict)) {
      for (const auto& [key, value] : from.as_dict().entries) {
        if (!runtime_.set(*dict, key, value)) return {};
      }
    } else {
      for (const Value& pair : collect(runtime_, from)) {
        std::vector<Value> parts = collect(runtime_, pair);
        if (runtime_.failed()) return {};
        if (parts.size() != 2) return runtime_.fail("dict needs pairs of a key and a value");
        if (!runtime_.set(*dict, std::move(parts[0]), std::move(parts[1]))) return {};
      }
    }
  }
  for (const auto& [name, value] : arguments.named) {
    if (!runtime_.set(*dict, Value::string(name), value)) return {};
  }
  return runtime_.dict(std::move(dict));
}

Value Interpreter::make_namespace(const CallArguments& arguments) {
  const Value attributes = make_dict(arguments);
  if (runtime_.failed() || !runtime_.step(4)) return {};
  namespaces_.push_back(std::make_unique<Namespace>(Namespace{attributes.as_dict()}));
  return Value::reference(namespaces_.back().get());
}

}  // namespace liquidgemm::chat

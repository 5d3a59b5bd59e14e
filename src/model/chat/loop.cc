// The variable `loop`: where a for stands, and what lies before and behind.

#include <algorithm>
#include <array>

#include "model/chat/interpreter.h"

namespace liquidgemm::chat {
namespace {

bool look_ahead(Loop& loop) {
  if (!loop.ahead.empty()) return true;
  Value item;
  if (!loop.pull || !loop.pull(&item)) return false;
  loop.ahead.push_back(std::move(item));
  return true;
}

}  // namespace

bool next_item(Loop& loop, Value* item) {
  if (!look_ahead(loop)) return false;
  *item = std::move(loop.ahead.front());
  loop.ahead.pop_front();
  ++loop.index0;
  loop.previous = std::move(loop.current);
  loop.current = *item;
  return true;
}

std::int64_t loop_length(Runtime& runtime, Loop& loop) {
  if (loop.length >= 0) return loop.length;
  if (!loop.filtered && !loop.iterable.is(Kind::kGenerator)) {
    const Value length = length_of(runtime, loop.iterable);
    loop.length = length.is(Kind::kInt) ? length.as_int() : 0;
    return loop.length;
  }
  // A filtered loop or a generator has no length before it has been walked to its end.
  Value item;
  while (loop.pull && loop.pull(&item)) loop.ahead.push_back(std::move(item));
  loop.length = loop.index0 + 1 + static_cast<std::int64_t>(loop.ahead.size());
  return loop.length;
}

std::string loop_text(Runtime& runtime, Loop& loop) {
  return "<LoopContext " + std::to_string(loop.index0 + 1) + "/" +
         std::to_string(loop_length(runtime, loop)) + ">";
}

std::optional<Value> loop_attribute(Runtime& runtime, Loop& loop, std::string_view name) {
  if (name == "index") return Value::integer(loop.index0 + 1);
  if (name == "index0") return Value::integer(loop.index0);
  if (name == "first") return Value::boolean(loop.index0 == 0);
  if (name == "last") return Value::boolean(!look_ahead(loop));
  if (name == "length") return Value::integer(loop_length(runtime, loop));
  if (name == "revindex") return Value::integer(loop_length(runtime, loop) - loop.index0);
  if (name == "revindex0") return Value::integer(loop_length(runtime, loop) - loop.index0 - 1);
  if (name == "depth") return Value::integer(1);
  if (name == "depth0") return Value::integer(0);
  if (name == "previtem") {
    return loop.index0 == 0 ? Value::undefined("there is no previous item") : loop.previous;
  }
  if (name == "nextitem") {
    return look_ahead(loop) ? loop.ahead.front() : Value::undefined("there is no next item");
  }
  return std::nullopt;
}

bool is_loop_method(std::string_view name) { return name == "cycle" || name == "changed"; }

Value call_loop_method(Runtime& runtime, Loop& loop, const std::string& name,
                       const CallArguments& arguments) {
  if (!arguments.named.empty()) return runtime.fail("loop." + name + " takes no named arguments");
  if (name == "cycle") {
    if (arguments.positional.empty()) return runtime.fail("no items for cycling given");
    const auto count = static_cast<std::int64_t>(arguments.positional.size());
    return arguments.positional[static_cast<std::size_t>(loop.index0 % count)];
  }
  Value now = runtime.sequence(Kind::kTuple, arguments.positional);
  if (loop.has_changed && equal(runtime, loop.changed, now)) return Value::boolean(false);
  loop.has_changed = true;
  loop.changed = std::move(now);
  return Value::boolean(true);
}

}  // namespace liquidgemm::chat

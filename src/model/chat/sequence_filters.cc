// Filters that choose, order and transform the items of a sequence.
//
// Jinja's map, select and their like are generators that work while they are walked over. Here
// they work at once; like a generator their result can be walked over only once, is always true
// and has no length.

#include <algorithm>

#include "model/chat/filters.h"
#include "model/chat/text.h"

namespace liquidgemm::chat {
namespace {

Value generator(Runtime& runtime, std::vector<Value> items) {
  return runtime.sequence(Kind::kGenerator, std::move(items));
}

// "a.b.0" is item 0 of b of a. None means the value itself.
std::vector<Value> path_parts(Runtime& runtime, const Value& path) {
  if (path.is(Kind::kNone) || path.is(Kind::kUndefined)) return {};
  if (!path.is(Kind::kString)) return {path};
  if (!runtime.charge(path.as_string().size())) return {};
  std::vector<Value> parts;
  std::string_view rest = path.as_string();
  for (;;) {
    const std::size_t dot = rest.find('.');
    const std::string_view part = rest.substr(0, dot);
    const bool number = !part.empty() && part.size() < 18 &&
                        part.find_first_not_of("0123456789") == std::string_view::npos;
    parts.push_back(number ? Value::integer(std::stoll(std::string(part)))
                           : Value::string(std::string(part)));
    if (dot == std::string_view::npos) return parts;
    rest.remove_prefix(dot + 1);
  }
}

Value look_up(Runtime& runtime, Value item, const std::vector<Value>& parts,
              const Value* otherwise = nullptr) {
  for (const Value& part : parts) {
    if (!runtime.step()) return {};
    item = get_item(runtime, item, part);
    if (otherwise != nullptr && item.is(Kind::kUndefined) && !runtime.failed()) item = *otherwise;
  }
  return item;
}

Value ignore_case(const Value& value, bool case_sensitive) {
  if (case_sensitive || !value.is(Kind::kString)) return value;
  return Value::string(to_lower(value.as_string()));
}

Value filter_first(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  const Parameters parameters(runtime, "first", arguments, {});
  Iterator iterator(runtime, value);
  Value item;
  if (iterator.next(&item)) return item;
  return Value::undefined("No first item, sequence was empty.");
}

bool is_reversible(const Value& value) {
  return Iterator::iterable(value) && !value.is(Kind::kGenerator);
}

Value filter_last(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  const Parameters parameters(runtime, "last", arguments, {});
  if (!is_reversible(value)) {
    return runtime.fail(std::string("'") + value.type_name() + "' object is not reversible");
  }
  const std::vector<Value> items = collect(runtime, value);
  if (!items.empty()) return items.back();
  return Value::undefined("No last item, sequence was empty.");
}

Value filter_list(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  const Parameters parameters(runtime, "list", arguments, {});
  return runtime.list(collect(runtime, value));
}

Value filter_items(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  const Parameters parameters(runtime, "items", arguments, {});
  if (value.is(Kind::kUndefined)) return generator(runtime, {});
  if (!value.is(Kind::kDict)) return runtime.fail("items needs a mapping");
  const Value view = call_method(runtime, value, "items", {});
  return runtime.failed() ? Value() : generator(runtime, view.items());
}

Value filter_reverse(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  const Parameters parameters(runtime, "reverse", arguments, {});
  if (value.is(Kind::kString)) {
    return get_slice(runtime, value, Value::none(), Value::none(), Value::integer(-1));
  }
  std::vector<Value> items = collect(runtime, value);
  std::reverse(items.begin(), items.end());
  return is_reversible(value) ? generator(runtime, std::move(items))
                              : runtime.list(std::move(items));
}

// Sorts by the keys, stably, in either direction.
std::vector<Value> sorted(Runtime& runtime, std::vector<Value> items,
                          const std::vector<Value>& keys, bool reverse) {
  std::vector<std::size_t> order(items.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    if (runtime.failed()) return false;
    return reverse ? less(runtime, keys[b], keys[a]) : less(runtime, keys[a], keys[b]);
  });
  std::vector<Value> out;
  out.reserve(items.size());
  for (const std::size_t i : order) out.push_back(std::move(items[i]));
  return out;
}

Value filter_sort(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  Parameters parameters(runtime, "sort", arguments, {"reverse", "case_sensitive", "attribute"});
  const bool reverse = parameters.truth(0, false);
  const bool case_sensitive = parameters.truth(1, false);
  // Several paths with commas between them: the first decides, then the next.
  std::vector<std::vector<Value>> paths;
  if (parameters[2].is(Kind::kString)) {
    std::string_view rest = parameters[2].as_string();
    for (;;) {
      const std::size_t comma = rest.find(',');
      paths.push_back(path_parts(runtime, Value::string(std::string(rest.substr(0, comma)))));
      if (comma == std::string_view::npos || !runtime.step()) break;
      rest.remove_prefix(comma + 1);
    }
  } else {
    paths.push_back(path_parts(runtime, parameters[2]));
  }
  std::vector<Value> items = collect(runtime, value);
  std::vector<Value> keys;
  for (const Value& item : items) {
    std::vector<Value> key;
    for (const auto& path : paths) {
      key.push_back(ignore_case(look_up(runtime, item, path), case_sensitive));
    }
    keys.push_back(runtime.list(std::move(key)));
    if (runtime.failed()) return {};
  }
  return runtime.list(sorted(runtime, std::move(items), keys, reverse));
}

Value filter_dictsort(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  Parameters parameters(runtime, "dictsort", arguments, {"case_sensitive", "by", "reverse"});
  const std::string by = parameters.string(1, "key");
  if (!parameters.ok()) return {};
  if (value.is(Kind::kUndefined)) return runtime.fail_undefined(value);
  if (!value.is(Kind::kDict)) return runtime.fail("dictsort needs a mapping");
  if (by != "key" && by != "value") return runtime.fail("dictsort sorts by key or by value");
  std::vector<Value> items = call_method(runtime, value, "items", {}).items();
  std::vector<Value> keys;
  for (const Value& item : items) {
    const Value& part = item.items()[by == "key" ? 0 : 1];
    keys.push_back(ignore_case(part, parameters.truth(0, false)));
  }
  return runtime.list(sorted(runtime, std::move(items), keys, parameters.truth(2, false)));
}

Value filter_unique(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  Parameters parameters(runtime, "unique", arguments, {"case_sensitive", "attribute"});
  const std::vector<Value> path = path_parts(runtime, parameters[1]);
  Dict seen;
  std::vector<Value> out;
  for (const Value& item : collect(runtime, value)) {
    Value key = ignore_case(look_up(runtime, item, path), parameters.truth(0, false));
    if (runtime.failed()) return {};
    const std::size_t before = seen.entries.size();
    if (!runtime.set(seen, std::move(key), Value::none())) return {};
    if (seen.entries.size() > before) out.push_back(item);
  }
  return generator(runtime, std::move(out));
}

Value extreme(Runtime& runtime, const Value& value, const CallArguments& arguments, bool largest) {
  Parameters parameters(runtime, largest ? "max" : "min", arguments,
                        {"case_sensitive", "attribute"});
  const std::vector<Value> path = path_parts(runtime, parameters[1]);
  Value best = Value::undefined("No aggregated item, sequence was empty.");
  Value best_key;
  bool any = false;
  Iterator iterator(runtime, value);
  Value item;
  while (iterator.next(&item)) {
    Value key = ignore_case(look_up(runtime, item, path), parameters.truth(0, false));
    if (runtime.failed()) return {};
    if (!any || (largest ? less(runtime, best_key, key, ">") : less(runtime, key, best_key))) {
      best = item;
      best_key = std::move(key);
    }
    any = true;
  }
  return best;
}

Value filter_min(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  return extreme(runtime, value, arguments, false);
}

Value filter_max(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  return extreme(runtime, value, arguments, true);
}

Value filter_sum(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  Parameters parameters(runtime, "sum", arguments, {"attribute", "start"});
  const std::vector<Value> path = path_parts(runtime, parameters[0]);
  Value total = parameters.given(1) ? parameters[1] : Value::integer(0);
  if (total.is(Kind::kString)) return runtime.fail("sum adds no strings; join does");
  Iterator iterator(runtime, value);
  Value item;
  while (iterator.next(&item)) {
    const Value part = look_up(runtime, item, path);
    if (!runtime.failed()) total = arithmetic(runtime, Operator::kAdd, total, part);
  }
  return total;
}

// map(attribute="a.b", default=x) or map("filter", arguments...)
Value filter_map(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  std::vector<Value> out;
  if (!truth(value)) return generator(runtime, {});
  const bool by_attribute =
      arguments.positional.empty() &&
      std::any_of(arguments.named.begin(), arguments.named.end(),
                  [](const auto& named) { return named.first == "attribute"; });
  if (by_attribute) {
    Parameters parameters(runtime, "map", arguments, {"attribute", "default"});
    const std::vector<Value> path = path_parts(runtime, parameters[0]);
    const bool has_default = parameters.given(1) && !parameters[1].is(Kind::kNone);
    for (const Value& item : collect(runtime, value)) {
      out.push_back(look_up(runtime, item, path, has_default ? &parameters[1] : nullptr));
    }
    return generator(runtime, std::move(out));
  }
  if (arguments.positional.empty() || !arguments.positional[0].is(Kind::kString)) {
    return runtime.fail("map needs a filter's name or attribute=");
  }
  const std::string& name = arguments.positional[0].as_string();
  CallArguments rest = arguments;
  rest.positional.erase(rest.positional.begin());
  for (const Value& item : collect(runtime, value)) {
    const Depth depth(runtime);  // a filter may be map itself
    if (!depth.ok()) return {};
    out.push_back(apply_filter(runtime, name, item, rest));
  }
  return generator(runtime, std::move(out));
}

// select("test", arguments...), or with `by_attribute` the attribute's path before that.
Value choose(Runtime& runtime, const Value& value, const CallArguments& arguments,
             bool by_attribute, bool keep) {
  if (!truth(value)) return generator(runtime, {});
  CallArguments rest = arguments;
  std::vector<Value> path;
  if (by_attribute) {
    if (rest.positional.empty()) return runtime.fail("the attribute's name is missing");
    path = path_parts(runtime, rest.positional[0]);
    rest.positional.erase(rest.positional.begin());
  }
  std::string test;
  if (!rest.positional.empty()) {
    if (!rest.positional[0].is(Kind::kString)) {
      return runtime.fail(StatusCode::kUnsupported, "there is no test of that name");
    }
    test = rest.positional[0].as_string();
    rest.positional.erase(rest.positional.begin());
  }
  std::vector<Value> out;
  for (const Value& item : collect(runtime, value)) {
    const Value part = look_up(runtime, item, path);
    if (runtime.failed()) return {};
    const bool passes = arguments.positional.size() == (by_attribute ? 1u : 0u)
                            ? truth(part)
                            : apply_test(runtime, test, part, rest);
    if (passes == keep) out.push_back(item);
  }
  return generator(runtime, std::move(out));
}

template <bool kByAttribute, bool kKeep>
Value filter_choose(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  return choose(runtime, value, arguments, kByAttribute, kKeep);
}

Value filter_batch(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  Parameters parameters(runtime, "batch", arguments, {"linecount", "fill_with"}, 1);
  const std::int64_t size = parameters.integer(0, 1);
  if (!parameters.ok()) return {};
  std::vector<Value> out;
  std::vector<Value> batch;
  for (const Value& item : collect(runtime, value)) {
    if (static_cast<std::int64_t>(batch.size()) == size) {
      out.push_back(runtime.list(std::exchange(batch, {})));
    }
    batch.push_back(item);
  }
  if (!batch.empty()) {
    while (parameters.given(1) && !parameters[1].is(Kind::kNone) && runtime.step() &&
           static_cast<std::int64_t>(batch.size()) < size) {
      batch.push_back(parameters[1]);
    }
    out.push_back(runtime.list(std::move(batch)));
  }
  return generator(runtime, std::move(out));
}

struct Entry {
  std::string_view name;
  Filter filter;
};
constexpr Entry kFilters[] = {
    {"batch", filter_batch},
    {"dictsort", filter_dictsort},
    {"first", filter_first},
    {"items", filter_items},
    {"last", filter_last},
    {"list", filter_list},
    {"map", filter_map},
    {"max", filter_max},
    {"min", filter_min},
    {"reject", filter_choose<false, false>},
    {"rejectattr", filter_choose<true, false>},
    {"reverse", filter_reverse},
    {"select", filter_choose<false, true>},
    {"selectattr", filter_choose<true, true>},
    {"sort", filter_sort},
    {"sum", filter_sum},
    {"unique", filter_unique},
};

}  // namespace

Value look_up_path(Runtime& runtime, const Value& item, const Value& path) {
  return look_up(runtime, item, path_parts(runtime, path));
}

Filter find_sequence_filter(std::string_view name) {
  for (const Entry& entry : kFilters) {
    if (entry.name == name) return entry.filter;
  }
  return nullptr;
}

}  // namespace liquidgemm::chat

#include "engine/grammar/schema_grammar.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <deque>
#include <utility>

#include "base/status_macros.h"
#include "engine/grammar/literals.h"
#include "engine/grammar/schema_builder.h"

namespace liquidgemm {
namespace {

// Also checks what needs no understanding of the schema: how many values it has.
Status count_nodes(const json::Value& value, std::size_t most, std::size_t& nodes) {
  if (++nodes > most) {
    return resource_exhausted(
        fmt::format("schema: it has more than {} values, which is the limit", most));
  }
  if (value.is_array()) {
    for (const json::Value& element : value.get_array()) {
      LIQUIDGEMM_RETURN_IF_ERROR(count_nodes(element, most, nodes));
    }
  } else if (value.is_object()) {
    for (const auto& member : value.get_object()) {
      LIQUIDGEMM_RETURN_IF_ERROR(count_nodes(member.value(), most, nodes));
    }
  }
  return ok_status();
}

void append_literal(const json::Value& value, std::string& out) {
  if (value.is_double()) {
    char digits[40];
    const auto written = std::to_chars(digits, digits + sizeof(digits), value.get_double());
    out.append(digits, written.ptr);
  } else if (value.is_array()) {
    out.push_back('[');
    for (const json::Value& element : value.get_array()) {
      if (out.back() != '[') out.push_back(',');
      append_literal(element, out);
    }
    out.push_back(']');
  } else if (value.is_object()) {
    bool first = true;
    out.push_back('{');
    for (const auto& member : value.get_object()) {
      if (!std::exchange(first, false)) out.push_back(',');
      out += json::dump(json::Value(member.key())) + ":";
      append_literal(member.value(), out);
    }
    out.push_back('}');
  } else {
    out += json::dump(value);
  }
}

Status at(const std::string& path, const Status& status) {
  return status.with_context("schema: " + path);
}

// Which JSON types a value of the schema may have, as far as its first level tells; all: unknown.
unsigned possible_types(const json::Value& schema) {
  constexpr unsigned kAll = ~0u;
  const auto bit = [](SchemaType type) {
    return type == SchemaType::kInteger ? 1u << static_cast<unsigned>(SchemaType::kNumber)
                                        : 1u << static_cast<unsigned>(type);
  };
  if (!schema.is_object()) return kAll;
  const json::Object& object = schema.get_object();
  if (object.contains("$ref") || object.contains("anyOf") || object.contains("oneOf") ||
      object.contains("allOf")) {
    return kAll;
  }
  unsigned types = 0;
  const auto add_value = [&](const json::Value& value) {
    for (const SchemaType type : {SchemaType::kNull, SchemaType::kBoolean, SchemaType::kNumber,
                                  SchemaType::kString, SchemaType::kArray, SchemaType::kObject}) {
      if (is_of_type(value, type)) types |= bit(type);
    }
  };
  if (const json::Value* value = object.if_contains("const")) {
    add_value(*value);
  } else if (const json::Value* list = object.if_contains("enum"); list && list->is_array()) {
    for (const json::Value& one : list->get_array()) add_value(one);
  } else if (const json::Value* type = object.if_contains("type")) {
    const auto add_name = [&](const json::Value& name) {
      SchemaType known;
      if (!name.is_string() || !parse_schema_type(name.get_string(), known)) {
        types = kAll;
      } else {
        types |= bit(known);
      }
    };
    if (type->is_array()) {
      for (const json::Value& name : type->get_array()) add_name(name);
    } else {
      add_name(*type);
    }
  } else {
    return kAll;
  }
  return types;
}

// The values of a schema that lists them, or nothing.
const json::Value* listed(const json::Value& schema, bool& single) {
  if (!schema.is_object()) return nullptr;
  const json::Object& object = schema.get_object();
  single = object.contains("const");
  if (single) return object.if_contains("const");
  const json::Value* list = object.if_contains("enum");
  return list != nullptr && list->is_array() ? list : nullptr;
}

// The texts of the values of a `const` or `enum`; empty if the schema has neither.
std::vector<std::string> listed_texts(const json::Value& schema) {
  bool single = false;
  const json::Value* values = listed(schema, single);
  std::vector<std::string> texts;
  if (values == nullptr) return texts;
  const auto add = [&](const json::Value& value) { append_literal(value, texts.emplace_back()); };
  if (single) {
    add(*values);
  } else {
    for (const json::Value& value : values->get_array()) add(value);
  }
  return texts;
}

// True if no text is in two of the lists, and none is empty.
bool all_different(const std::vector<std::vector<std::string>>& lists) {
  std::vector<std::pair<std::string, std::size_t>> all;
  for (std::size_t i = 0; i < lists.size(); ++i) {
    if (lists[i].empty()) return false;
    for (const std::string& text : lists[i]) {
      // Strings are equal when their texts are; other values may be written in two ways.
      if (text.front() != '"') return false;
      all.emplace_back(text, i);
    }
  }
  std::sort(all.begin(), all.end());
  for (std::size_t i = 1; i < all.size(); ++i) {
    if (all[i].first == all[i - 1].first && all[i].second != all[i - 1].second) return false;
  }
  return true;
}

// No value can belong to two of the schemas: by their types, by their listed values, or by a
// property that all of them require with values of their own.
bool exclude_each_other(const json::Array& schemas) {
  unsigned seen = 0;
  bool by_type = true;
  for (const json::Value& schema : schemas) {
    const unsigned types = possible_types(schema);
    by_type = by_type && (seen & types) == 0;
    seen |= types;
  }
  if (by_type) return true;

  std::vector<std::vector<std::string>> lists;
  for (const json::Value& schema : schemas) lists.push_back(listed_texts(schema));
  if (all_different(lists)) return true;

  const auto properties_of = [](const json::Value& schema) -> const json::Object* {
    if (!schema.is_object()) return nullptr;
    const json::Value* type = schema.get_object().if_contains("type");
    const json::Value* properties = schema.get_object().if_contains("properties");
    if (type == nullptr || !type->is_string() || type->get_string() != "object") return nullptr;
    return properties != nullptr && properties->is_object() ? &properties->get_object() : nullptr;
  };
  const auto requires_it = [](const json::Value& schema, std::string_view name) {
    const json::Value* required = schema.get_object().if_contains("required");
    if (required == nullptr || !required->is_array()) return false;
    const json::Array& names = required->get_array();
    return std::any_of(names.begin(), names.end(), [&](const json::Value& one) {
      return one.is_string() && std::string_view(one.get_string()) == name;
    });
  };
  const json::Object* first = schemas.empty() ? nullptr : properties_of(schemas.front());
  if (first == nullptr) return false;
  for (const auto& candidate : *first) {
    lists.clear();
    for (const json::Value& schema : schemas) {
      const json::Object* properties = properties_of(schema);
      const json::Value* property =
          properties == nullptr ? nullptr : properties->if_contains(candidate.key());
      if (property == nullptr || !requires_it(schema, candidate.key())) break;
      lists.push_back(listed_texts(*property));
    }
    if (lists.size() == schemas.size() && all_different(lists)) return true;
  }
  return false;
}

}  // namespace

Result<std::string> schema_grammar(std::string_view schema, const GrammarLimits& limits) {
  json::Limits json_limits;
  json_limits.max_bytes = limits.max_bytes;
  json_limits.max_depth = limits.max_depth;
  LIQUIDGEMM_ASSIGN_OR_RETURN(const json::Value root, json::parse(schema, "schema", json_limits));
  std::size_t nodes = 0;
  LIQUIDGEMM_RETURN_IF_ERROR(count_nodes(root, limits.max_nodes, nodes));
  return SchemaBuilder(root, limits).build();
}

Result<std::string> SchemaBuilder::build() {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const Rule root, reference(root_, "#"));
  // A $ref only names its target's rule: no recursion follows chains of them.
  while (!pending_.empty()) {
    const auto [value, path] = std::move(pending_.back());
    pending_.pop_back();
    const Rule rule = targets_.at(value);
    LIQUIDGEMM_ASSIGN_OR_RETURN(const Rule body, schema(*value, path));
    grammar_.define(rule, GrammarText::reference(body));
    shapes_[rule] = {{{body}}, {body}};
  }
  LIQUIDGEMM_RETURN_IF_ERROR(check_same());
  LIQUIDGEMM_RETURN_IF_ERROR(check_endings());
  return grammar_.finish(root);
}

SchemaBuilder::Rule SchemaBuilder::leaf(std::string body) {
  return composite(std::move(body), {{{}}, {}});
}

SchemaBuilder::Rule SchemaBuilder::composite(std::string body, Shape shape) {
  const Rule rule = grammar_.add(std::move(body));
  shapes_[rule] = std::move(shape);
  return rule;
}

Result<SchemaBuilder::Rule> SchemaBuilder::reference(const json::Value& target,
                                                     const std::string& path) {
  if (const auto known = targets_.find(&target); known != targets_.end()) return known->second;
  const Rule rule = grammar_.reserve();
  targets_.emplace(&target, rule);
  pending_.emplace_back(&target, path);
  return rule;
}

Result<SchemaBuilder::Rule> SchemaBuilder::schema(const json::Value& value,
                                                  const std::string& path) {
  LIQUIDGEMM_RETURN_IF_ERROR(grammar_.spend(1));
  if (value.is_bool()) {
    if (value.get_bool()) return leaf(json_.any_value());
    return invalid_argument(fmt::format("schema: {}: \"false\" leaves no value at all", path));
  }
  if (!value.is_object()) {
    return invalid_argument(fmt::format("schema: {}: expected an object or a boolean", path));
  }
  const json::Object& object = value.get_object();
  LIQUIDGEMM_RETURN_IF_ERROR(check_keywords(object, path));

  constexpr std::string_view kWhole[] = {"$ref", "const", "enum", "anyOf", "oneOf", "allOf"};
  std::vector<std::string_view> whole;
  for (const std::string_view keyword : kWhole) {
    if (object.contains(keyword)) whole.push_back(keyword);
  }
  if (whole.empty()) return typed(object, path);
  const bool lists_values = whole[0] == "const" || whole[0] == "enum";
  if (whole.size() > 1 || !types_by_keywords(object).empty() ||
      (object.contains("type") && !lists_values)) {
    return unsupported(fmt::format(
        "schema: {}: \"{}\" beside other conditions is not supported; write them into one schema",
        path, whole[0]));
  }
  if (lists_values) return values(object, path);
  const json::Value& content = object.at(whole[0]);
  if (whole[0] == "$ref") {
    if (!content.is_string()) {
      return invalid_argument(fmt::format("schema: {}/$ref: expected a string", path));
    }
    const std::string pointer(content.get_string());
    LIQUIDGEMM_ASSIGN_OR_RETURN(const json::Value* target, resolve(pointer, path));
    return reference(*target, pointer);
  }
  if (!content.is_array() || content.get_array().empty()) {
    return invalid_argument(
        fmt::format("schema: {}/{}: expected a list of schemas", path, whole[0]));
  }
  if (whole[0] == "anyOf") return any_of(content, path + "/anyOf");
  if (whole[0] == "oneOf") {
    if (!exclude_each_other(content.get_array())) {
      return unsupported(fmt::format(
          "schema: {}/oneOf: its schemas may overlap, which is not supported; give them different "
          "types or a required property with a \"const\" of its own, or use \"anyOf\"",
          path));
    }
    return any_of(content, path + "/oneOf");
  }
  if (content.get_array().size() > 1) {
    return unsupported(
        fmt::format("schema: {}/allOf: more than one schema is not supported", path));
  }
  return schema(content.get_array().front(), path + "/allOf/0");
}

Result<SchemaBuilder::Rule> SchemaBuilder::any_of(const json::Value& list,
                                                  const std::string& path) {
  std::vector<std::string> choices;
  Shape shape;
  for (const json::Value& option : list.get_array()) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(const Rule rule,
                                schema(option, fmt::format("{}/{}", path, choices.size())));
    choices.push_back(GrammarText::reference(rule));
    shape.ways.push_back({rule});
    shape.same.push_back(rule);
  }
  return composite(GrammarText::choice(choices), std::move(shape));
}

Result<SchemaBuilder::Rule> SchemaBuilder::values(const json::Object& object,
                                                  const std::string& path) {
  std::vector<SchemaType> types;
  if (const json::Value* type = object.if_contains("type")) {
    const json::Array single = {*type};
    for (const json::Value& name : type->is_array() ? type->get_array() : single) {
      SchemaType known;
      if (!name.is_string() || !parse_schema_type(name.get_string(), known)) {
        return invalid_argument(fmt::format("schema: {}/type: not a type of JSON", path));
      }
      types.push_back(known);
    }
  }
  const json::Value* constant = object.if_contains("const");
  const json::Value* list = object.if_contains("enum");
  if (constant == nullptr && !list->is_array()) {
    return invalid_argument(fmt::format("schema: {}/enum: expected a list", path));
  }
  const json::Array single = constant == nullptr ? json::Array() : json::Array{*constant};
  const json::Array& all = constant == nullptr ? list->get_array() : single;
  if (all.size() > limits_.max_enum_values) {
    return resource_exhausted(fmt::format("schema: {}/enum: {} values, at most {} are accepted",
                                          path, all.size(), limits_.max_enum_values));
  }
  std::vector<std::string> texts;
  for (const json::Value& value : all) {
    const bool kept = types.empty() || std::any_of(types.begin(), types.end(), [&](SchemaType t) {
                        return is_of_type(value, t);
                      });
    if (kept) append_literal(value, texts.emplace_back());
  }
  if (texts.empty()) {
    return invalid_argument(fmt::format("schema: {}: its list of values holds none", path));
  }
  auto body = one_of(std::move(texts), grammar_);
  if (!body.ok()) return at(path, body.status());
  return leaf(std::move(*body));
}

Result<SchemaBuilder::Rule> SchemaBuilder::typed(const json::Object& object,
                                                 const std::string& path) {
  std::vector<SchemaType> types;
  if (const json::Value* type = object.if_contains("type")) {
    const json::Array single = {*type};
    for (const json::Value& name : type->is_array() ? type->get_array() : single) {
      SchemaType known;
      if (!name.is_string() || !parse_schema_type(name.get_string(), known)) {
        return invalid_argument(
            fmt::format("schema: {}/type: expected null, boolean, integer, number, string, array, "
                        "object or a list of them",
                        path));
      }
      if (std::find(types.begin(), types.end(), known) == types.end()) types.push_back(known);
    }
    if (types.empty()) return invalid_argument(fmt::format("schema: {}/type: it is empty", path));
  } else {
    types = types_by_keywords(object);
  }
  if (types.empty()) return leaf(json_.any_value());
  if (types.size() == 1) return of_type(object, types[0], path);
  std::vector<std::string> choices;
  Shape shape;
  for (const SchemaType type : types) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(const Rule rule, of_type(object, type, path));
    choices.push_back(GrammarText::reference(rule));
    shape.ways.push_back({rule});
    shape.same.push_back(rule);
  }
  return composite(GrammarText::choice(choices), std::move(shape));
}

Result<SchemaBuilder::Rule> SchemaBuilder::of_type(const json::Object& object, SchemaType type,
                                                   const std::string& path) {
  switch (type) {
    case SchemaType::kNull: return leaf("\"null\"");
    case SchemaType::kBoolean: return leaf("\"true\" | \"false\"");
    case SchemaType::kArray: return array(object, path);
    case SchemaType::kObject: return this->object(object, path);
    default: break;
  }
  auto body = type == SchemaType::kString    ? string(object, path)
              : type == SchemaType::kInteger ? integer(object, path)
                                             : number(object, path);
  if (!body.ok()) return at(path, body.status());
  return leaf(std::move(*body));
}

Result<const json::Value*> SchemaBuilder::resolve(const std::string& pointer,
                                                  const std::string& path) const {
  const auto refuse = [&](std::string_view why) {
    return invalid_argument(
        fmt::format("schema: {}/$ref: \"{}\": {}", path, pointer.substr(0, 200), why));
  };
  if (pointer.empty() || pointer[0] != '#') {
    return refuse("only references into the schema itself are followed (\"#/...\")");
  }
  if (pointer.size() > 1 && pointer[1] != '/') return refuse("expected \"#\" or \"#/...\"");
  const json::Value* value = &root_;
  for (std::size_t begin = 1; begin < pointer.size();) {
    const std::size_t end = std::min(pointer.find('/', begin + 1), pointer.size());
    std::string name;
    for (std::size_t i = begin + 1; i < end; ++i) {
      unsigned byte = 0;
      if (pointer[i] == '~' && i + 1 < end && (pointer[i + 1] == '0' || pointer[i + 1] == '1')) {
        name.push_back(pointer[++i] == '0' ? '~' : '/');
      } else if (pointer[i] == '%' && i + 2 < end &&
                 std::from_chars(&pointer[i + 1], &pointer[i + 3], byte, 16).ptr ==
                     &pointer[i + 3]) {
        name.push_back(static_cast<char>(byte));
        i += 2;
      } else {
        name.push_back(pointer[i]);
      }
    }
    if (value->is_object()) {
      value = value->get_object().if_contains(name);
    } else if (value->is_array()) {
      std::size_t index = 0;
      const auto read = std::from_chars(name.data(), name.data() + name.size(), index);
      const bool whole =
          !name.empty() && read.ptr == name.data() + name.size() && read.ec == std::errc();
      value = whole && index < value->get_array().size() ? &value->get_array()[index] : nullptr;
    } else {
      value = nullptr;
    }
    if (value == nullptr) return refuse("there is no such part of the schema");
    begin = end;
  }
  return value;
}

// A reference that only leads back to itself names no value.
Status SchemaBuilder::check_same() const {
  enum class State { kNew, kOpen, kDone };
  std::map<Rule, State> states;
  for (const auto& [start, unused] : shapes_) {
    std::vector<std::pair<Rule, std::size_t>> stack;
    if (states[start] == State::kNew) stack.emplace_back(start, 0);
    states[start] = stack.empty() ? states[start] : State::kOpen;
    while (!stack.empty()) {
      auto& [rule, next] = stack.back();
      const std::vector<Rule>& same = shapes_.at(rule).same;
      if (next == same.size()) {
        states[rule] = State::kDone;
        stack.pop_back();
        continue;
      }
      const Rule other = same[next++];
      State& state = states[other];
      if (state == State::kOpen) {
        return invalid_argument("schema: a \"$ref\" leads back to itself without a value between");
      }
      if (state == State::kDone) continue;
      state = State::kOpen;
      stack.emplace_back(other, 0);
    }
  }
  return ok_status();
}

// Every rule must have an answer of finite length: else a model that began one could not end it.
Status SchemaBuilder::check_endings() const {
  struct Way {
    Rule rule;
    std::size_t missing;
  };
  std::vector<Way> ways;
  std::map<Rule, std::vector<std::size_t>> waiting;
  std::map<Rule, bool> ends;
  std::deque<Rule> found;
  for (const auto& [rule, shape] : shapes_) {
    ends[rule] = false;
    for (const std::vector<Rule>& way : shape.ways) {
      for (const Rule part : way) waiting[part].push_back(ways.size());
      ways.push_back({rule, way.size()});
      if (way.empty()) found.push_back(rule);
    }
  }
  while (!found.empty()) {
    const Rule rule = found.front();
    found.pop_front();
    if (std::exchange(ends[rule], true)) continue;
    for (const std::size_t way : waiting[rule]) {
      if (--ways[way].missing == 0) found.push_back(ways[way].rule);
    }
  }
  for (const auto& [rule, end] : ends) {
    if (!end) {
      return invalid_argument(
          "schema: a value that contains itself through \"$ref\" can never end; make the property "
          "optional or give \"anyOf\" another choice");
    }
  }
  return ok_status();
}

}  // namespace liquidgemm

#include "engine/grammar/schema_grammar.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <deque>
#include <utility>

#include "base/status_macros.h"
#include "engine/grammar/literals.h"
#include "engine/grammar/schema_builder.h"
#include "engine/grammar/schema_overlap.h"

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

Status at(const std::string& path, const Status& status) {
  return status.with_context("schema: " + path);
}

// What "type" names, each once; nothing where it does not stand.
Result<std::vector<SchemaType>> named_types(const json::Object& object, const std::string& path) {
  std::vector<SchemaType> types;
  const json::Value* type = object.if_contains("type");
  if (type == nullptr) return types;
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
  return types;
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
  std::vector<Rule> options;
  for (const json::Value& option : list.get_array()) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(const Rule rule,
                                schema(option, fmt::format("{}/{}", path, options.size())));
    options.push_back(rule);
  }
  return choice_of(options);
}

SchemaBuilder::Rule SchemaBuilder::choice_of(const std::vector<Rule>& rules) {
  std::vector<std::string> choices;
  Shape shape;
  for (const Rule rule : rules) {
    choices.push_back(GrammarText::reference(rule));
    shape.ways.push_back({rule});
    shape.same.push_back(rule);
  }
  return composite(GrammarText::choice(choices), std::move(shape));
}

Result<SchemaBuilder::Rule> SchemaBuilder::values(const json::Object& object,
                                                  const std::string& path) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::vector<SchemaType> types, named_types(object, path));
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
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::vector<SchemaType> types, named_types(object, path));
  if (object.contains("type")) {
    if (types.empty()) return invalid_argument(fmt::format("schema: {}/type: it is empty", path));
  } else {
    types = types_by_keywords(object);
  }
  if (types.empty()) return leaf(json_.any_value());
  if (types.size() == 1) return of_type(object, types[0], path);
  std::vector<Rule> rules;
  for (const SchemaType type : types) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(const Rule rule, of_type(object, type, path));
    rules.push_back(rule);
  }
  return choice_of(rules);
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

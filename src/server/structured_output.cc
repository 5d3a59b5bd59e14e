// Answers that must follow a grammar: what a request may ask for, and the schema of forced calls.

#include <algorithm>

#include "server/api_request.h"

namespace liquidgemm::server {
namespace {

constexpr std::size_t kMaxText = 16u << 20;

// Collects the one grammar that a request may name.
class GrammarFields {
 public:
  GrammarFields(RequestFields& fields, const RequestRules& rules, GenerationParams& out)
      : fields_(fields), rules_(rules), out_(out) {}

  void set(RequestFields& fields, std::string_view name, GrammarSpec spec) {
    if (out_.grammar) {
      return fields.fail(name, "not accepted together with " + out_.grammar_field);
    }
    if (!rules_.structured_output) {
      return fields.fail(name, "structured output is not available on this server");
    }
    out_.grammar = std::move(spec);
    out_.grammar_field = fields.path_of(name);
  }

  // A schema: an object, true or false, or its text.
  void schema(RequestFields& fields, std::string_view name, const json::Value& value) {
    if (value.is_object() || value.is_bool()) {
      return set(
          fields, name,
          {.kind = GrammarSpec::Kind::kJsonSchema, .text = json::dump(value), .choices = {}});
    }
    if (value.is_string()) {
      auto parsed = json::parse(std::string_view(value.get_string()), "schema",
                                {.max_bytes = kMaxText, .max_depth = rules_.limits.body_depth});
      if (!parsed.ok()) return fields.fail(name, parsed.status().message());
      if (parsed->is_object() || parsed->is_bool()) return schema(fields, name, *parsed);
    }
    fields.fail(name, "expected a JSON schema, found " + std::string(json::kind_name(value)));
  }

  void regex(RequestFields& fields, std::string_view name) {
    if (auto text = fields.string(name, kMaxText)) {
      set(fields, name,
          {.kind = GrammarSpec::Kind::kRegex, .text = std::move(*text), .choices = {}});
    }
  }

  void choice(RequestFields& fields, std::string_view name) {
    if (fields.value(name) == nullptr) return;
    if (!fields.value(name)->is_array()) {
      return fields.fail(name, "expected a list of strings, found " +
                                   std::string(json::kind_name(*fields.value(name))));
    }
    auto choices = fields.strings(name, kMaxText, kMaxText);
    if (choices.empty()) return fields.fail(name, "empty, expected at least one choice");
    set(fields, name,
        {.kind = GrammarSpec::Kind::kChoice, .text = {}, .choices = std::move(choices)});
  }

  void response_format() {
    const json::Object* format = fields_.object("response_format");
    if (format == nullptr) return;
    RequestFields inner = fields_.inside(*format, "response_format");
    const std::string type = inner.string("type", kMaxText).value_or("");
    if (type == "json_object") {
      set(fields_, "response_format",
          {.kind = GrammarSpec::Kind::kJsonObject, .text = {}, .choices = {}});
    } else if (type == "json_schema") {
      const json::Object* named = inner.object("json_schema");
      if (named == nullptr) return inner.fail("json_schema", "missing");
      RequestFields schema_fields = inner.inside(*named, "json_schema");
      (void)schema_fields.string("name", kMaxText);
      (void)schema_fields.string("description", kMaxText);
      (void)schema_fields.boolean("strict");
      const json::Value* value = schema_fields.value("schema");
      if (value == nullptr) return schema_fields.fail("schema", "missing");
      schema(schema_fields, "schema", *value);
    } else if (type != "text") {
      inner.fail("type", "expected text, json_object or json_schema, found " +
                             json::dump(json::Value(type.substr(0, 64))));
    }
  }

  // vLLM's newer spelling of guided_*.
  void structured_outputs() {
    const json::Object* object = fields_.object("structured_outputs");
    if (object == nullptr) return;
    RequestFields inner = fields_.inside(*object, "structured_outputs");
    if (const json::Value* value = inner.value("json")) schema(inner, "json", *value);
    regex(inner, "regex");
    choice(inner, "choice");
    if (inner.boolean("json_object").value_or(false)) {
      set(inner, "json_object",
          {.kind = GrammarSpec::Kind::kJsonObject, .text = {}, .choices = {}});
    }
    for (const std::string_view name : {"grammar", "structural_tag", "whitespace_pattern"}) {
      inner.unsupported(name);
    }
    for (const std::string_view name :
         {"disable_fallback", "disable_any_whitespace", "disable_additional_properties"}) {
      inner.unsupported(name, {"false"});
    }
  }

 private:
  RequestFields& fields_;
  const RequestRules& rules_;
  GenerationParams& out_;
};

// The parameters of each tool; every object without any.
json::Object parameters_of(const json::Value& tool) {
  const json::Object& function = tool.as_object().at("function").as_object();
  const json::Value* parameters = function.if_contains("parameters");
  if (parameters == nullptr || parameters->is_null()) return {{"type", "object"}};
  return parameters->as_object();
}

// Definitions move to the schema's root, where references look for them.
bool hoist(json::Object& parameters, std::string_view key, json::Object& root) {
  const json::Value* found = parameters.if_contains(key);
  if (found == nullptr) return true;
  if (!found->is_object()) return false;
  if (!root.contains(key)) root[key] = json::Object();
  json::Object& target = root[key].as_object();
  for (const auto& member : found->get_object()) {
    const json::Value* there = target.if_contains(member.key());
    if (there != nullptr && *there != member.value()) return false;
    target[member.key()] = member.value();
  }
  parameters.erase(key);
  return true;
}

// A reference that is neither to the hoisted definitions would point somewhere else afterwards.
bool references_can_move(const json::Value& value) {
  if (value.is_array()) {
    return std::all_of(value.get_array().begin(), value.get_array().end(), references_can_move);
  }
  if (!value.is_object()) return true;
  for (const auto& member : value.get_object()) {
    if (member.key() == "$ref" && member.value().is_string()) {
      const std::string_view target = member.value().get_string();
      if (!target.starts_with("#/$defs/") && !target.starts_with("#/definitions/")) return false;
    }
    if (!references_can_move(member.value())) return false;
  }
  return true;
}

}  // namespace

void parse_structured_output(RequestFields& fields, const RequestRules& rules,
                             GenerationParams& generation) {
  GrammarFields grammar(fields, rules, generation);
  grammar.response_format();
  if (const json::Value* value = fields.value("guided_json")) {
    grammar.schema(fields, "guided_json", *value);
  }
  grammar.regex(fields, "guided_regex");
  grammar.choice(fields, "guided_choice");
  grammar.structured_outputs();
  fields.unsupported("guided_grammar", {"\"\""}, "guided_regex and guided_json are there");
  fields.unsupported("guided_whitespace_pattern");
  fields.unsupported("guided_decoding_backend", {"\"auto\"", "\"xgrammar\""});
  fields.unsupported("structural_tag");
}

void require_call(RequestFields& fields, const RequestRules& rules, ChatRequest& request) {
  if (!rules.structured_output || !fields.ok()) {
    return fields.fail("tool_choice",
                       "a call can only be required where structured output is available, which "
                       "it is not on this server");
  }
  const json::Array& tools = request.prompt.tools.as_array();
  json::Object schema;
  if (request.tool_choice == ToolChoice::kNamed) {
    const auto named =
        std::find(request.tool_names.begin(), request.tool_names.end(), request.tool_name) -
        request.tool_names.begin();
    schema = parameters_of(tools[static_cast<std::size_t>(named)]);
  } else {
    json::Array calls;
    for (std::size_t i = 0; i < tools.size(); ++i) {
      json::Object parameters = parameters_of(tools[i]);
      const std::string at = "tools[" + std::to_string(i) + "].function.parameters";
      if (!references_can_move(parameters)) {
        return fields.fail(at,
                           "with tool_choice required, $ref may only point to #/$defs/ or "
                           "#/definitions/");
      }
      for (const std::string_view key : {"$defs", "definitions"}) {
        if (!hoist(parameters, key, schema)) {
          return fields.fail(at + "." + std::string(key),
                             "expected an object that agrees with those of the other tools");
        }
      }
      calls.push_back(json::Object{
          {"type", "object"},
          {"properties", json::Object{{"name", json::Object{{"const", request.tool_names[i]}}},
                                      {"parameters", std::move(parameters)}}},
          {"required", json::Array{"name", "parameters"}},
          {"additionalProperties", false}});
    }
    schema["type"] = "array";
    schema["minItems"] = 1;
    if (!request.parallel_tool_calls) schema["maxItems"] = 1;
    schema["items"] = json::Object{{"anyOf", std::move(calls)}};
  }
  request.generation.grammar = {
      .kind = GrammarSpec::Kind::kJsonSchema, .text = json::dump(schema), .choices = {}};
  request.generation.grammar_field = "tools";
}

}  // namespace liquidgemm::server

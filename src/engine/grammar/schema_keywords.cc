#include "engine/grammar/schema_keywords.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <iterator>
#include <utility>

namespace liquidgemm {
namespace {

constexpr std::string_view kNotSupported[] = {"not",
                                              "if",
                                              "then",
                                              "else",
                                              "dependencies",
                                              "dependentRequired",
                                              "dependentSchemas",
                                              "patternProperties",
                                              "propertyNames",
                                              "contains",
                                              "minContains",
                                              "maxContains",
                                              "additionalItems",
                                              "multipleOf",
                                              "$dynamicRef",
                                              "$recursiveRef"};

constexpr std::pair<std::string_view, SchemaType> kTypes[] = {
    {"null", SchemaType::kNull},       {"boolean", SchemaType::kBoolean},
    {"integer", SchemaType::kInteger}, {"number", SchemaType::kNumber},
    {"string", SchemaType::kString},   {"array", SchemaType::kArray},
    {"object", SchemaType::kObject}};

constexpr std::pair<std::string_view, SchemaType> kKeywordTypes[] = {
    {"properties", SchemaType::kObject},
    {"required", SchemaType::kObject},
    {"additionalProperties", SchemaType::kObject},
    {"unevaluatedProperties", SchemaType::kObject},
    {"items", SchemaType::kArray},
    {"prefixItems", SchemaType::kArray},
    {"unevaluatedItems", SchemaType::kArray},
    {"minItems", SchemaType::kArray},
    {"maxItems", SchemaType::kArray},
    {"minLength", SchemaType::kString},
    {"maxLength", SchemaType::kString},
    {"pattern", SchemaType::kString},
    {"format", SchemaType::kString},
    {"minimum", SchemaType::kNumber},
    {"maximum", SchemaType::kNumber},
    {"exclusiveMinimum", SchemaType::kNumber},
    {"exclusiveMaximum", SchemaType::kNumber}};

bool is_bool(const json::Value* value, bool wanted) {
  return value != nullptr && value->is_bool() && value->get_bool() == wanted;
}

std::size_t length_of(const json::Value* list) {
  if (list == nullptr) return 0;
  if (list->is_array()) return list->get_array().size();
  return list->is_object() ? list->get_object().size() : 0;
}

}  // namespace

Status check_keywords(const json::Object& schema, std::string_view path) {
  const auto refuse = [&](std::string_view keyword) {
    return unsupported(
        fmt::format("schema: {}: the keyword \"{}\" is not supported", path, keyword));
  };
  for (const std::string_view keyword : kNotSupported) {
    if (schema.contains(keyword)) return refuse(keyword);
  }
  const json::Value* unique = schema.if_contains("uniqueItems");
  if (unique != nullptr && !is_bool(unique, false)) return refuse("uniqueItems");
  // Nothing but named properties and items is ever written unless the schema says what.
  for (const std::string_view keyword : {"unevaluatedProperties", "unevaluatedItems"}) {
    const json::Value* value = schema.if_contains(keyword);
    if (value != nullptr && !value->is_bool()) return refuse(keyword);
  }
  const json::Value* additional = schema.if_contains("additionalProperties");
  const bool closed = additional == nullptr || is_bool(additional, false);
  const auto count = [&](std::string_view keyword) -> const json::Value* {
    return schema.if_contains(keyword);
  };
  if (const json::Value* least = count("minProperties")) {
    const bool kept =
        least->is_int64() && least->get_int64() >= 0 &&
        static_cast<std::size_t>(least->get_int64()) <= length_of(schema.if_contains("required"));
    if (!kept) return refuse("minProperties");
  }
  if (const json::Value* most = count("maxProperties")) {
    const bool kept =
        most->is_int64() && closed && schema.contains("properties") && most->get_int64() >= 0 &&
        static_cast<std::size_t>(most->get_int64()) >= length_of(schema.if_contains("properties"));
    if (!kept) return refuse("maxProperties");
  }
  return ok_status();
}

bool parse_schema_type(std::string_view name, SchemaType& type) {
  for (const auto& [known, value] : kTypes) {
    if (known == name) {
      type = value;
      return true;
    }
  }
  return false;
}

std::vector<SchemaType> types_by_keywords(const json::Object& schema) {
  std::array<bool, std::size(kTypes)> found = {};
  for (const auto& [keyword, type] : kKeywordTypes) {
    if (schema.contains(keyword)) found[static_cast<std::size_t>(type)] = true;
  }
  std::vector<SchemaType> types;
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (found[i]) types.push_back(static_cast<SchemaType>(i));
  }
  return types;
}

bool is_of_type(const json::Value& value, SchemaType type) {
  switch (type) {
    case SchemaType::kNull: return value.is_null();
    case SchemaType::kBoolean: return value.is_bool();
    case SchemaType::kInteger:
      return value.is_int64() || value.is_uint64() ||
             (value.is_double() && std::floor(value.get_double()) == value.get_double());
    case SchemaType::kNumber: return value.is_number();
    case SchemaType::kString: return value.is_string();
    case SchemaType::kArray: return value.is_array();
    case SchemaType::kObject: return value.is_object();
  }
  return false;
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

}  // namespace liquidgemm

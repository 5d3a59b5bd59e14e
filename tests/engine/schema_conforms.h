// Whether a value conforms to a JSON schema, for the keywords that the tests use: written without a
// look at the grammars, as what they are held to.
#pragma once

#include <cmath>
#include <regex>
#include <string>

#include "base/json.h"
#include "model/tokenizer/utf8.h"

namespace liquidgemm::testing {

inline std::size_t characters(std::string_view text) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < text.size(); ++count) i += code_point_at(text, i).length;
  return count;
}

inline bool is_type(const json::Value& value, std::string_view type) {
  if (type == "null") return value.is_null();
  if (type == "boolean") return value.is_bool();
  if (type == "string") return value.is_string();
  if (type == "array") return value.is_array();
  if (type == "object") return value.is_object();
  if (!value.is_number()) return false;
  const double number = value.to_number<double>();
  return type == "number" || (type == "integer" && number == std::floor(number));
}

class SchemaCheck {
 public:
  explicit SchemaCheck(const json::Value& root) : root_(root) {}
  bool conforms(const json::Value& value) const { return conforms(value, root_); }

 private:
  static std::string text(const json::Value& value) { return std::string(value.as_string()); }

  bool conforms(const json::Value& value, const json::Value& schema) const {
    if (schema.is_bool()) return schema.as_bool();
    const json::Object& object = schema.as_object();
    const auto get = [&](std::string_view name) { return object.if_contains(name); };
    const auto all = [&](const json::Value& list) {
      int count = 0;
      for (const json::Value& one : list.as_array()) count += conforms(value, one);
      return count;
    };
    if (const auto* ref = get("$ref")) {
      const std::string pointer = text(*ref);
      boost::system::error_code error;
      const json::Value* target = root_.find_pointer(pointer.substr(1), error);
      return target != nullptr && conforms(value, *target);
    }
    if (const auto* list = get("anyOf"); list && all(*list) == 0) return false;
    if (const auto* list = get("oneOf"); list && all(*list) != 1) return false;
    if (const auto* list = get("allOf"); list && all(*list) != int(list->as_array().size())) {
      return false;
    }
    if (const auto* constant = get("const"); constant && *constant != value) return false;
    if (const auto* list = get("enum")) {
      bool found = false;
      for (const json::Value& one : list->as_array()) found = found || one == value;
      if (!found) return false;
    }
    if (const auto* type = get("type")) {
      bool found = type->is_string() && is_type(value, text(*type));
      if (type->is_array()) {
        for (const json::Value& one : type->as_array()) found = found || is_type(value, text(one));
      }
      if (!found) return false;
    }
    if (value.is_number() && !number(value.to_number<double>(), object)) return false;
    if (value.is_string() && !string(text(value), object)) return false;
    if (value.is_array() && !array(value.as_array(), object)) return false;
    return !value.is_object() || this->object(value.as_object(), object);
  }

  static bool number(double value, const json::Object& schema) {
    const auto bound = [&](std::string_view name) { return schema.at(name).to_number<double>(); };
    return !(schema.contains("minimum") && value < bound("minimum")) &&
           !(schema.contains("maximum") && value > bound("maximum")) &&
           !(schema.contains("exclusiveMinimum") && value <= bound("exclusiveMinimum")) &&
           !(schema.contains("exclusiveMaximum") && value >= bound("exclusiveMaximum"));
  }

  static bool string(const std::string& value, const json::Object& schema) {
    const auto length = static_cast<std::int64_t>(characters(value));
    if (const auto* least = schema.if_contains("minLength"); least && length < least->as_int64()) {
      return false;
    }
    if (const auto* most = schema.if_contains("maxLength"); most && length > most->as_int64()) {
      return false;
    }
    const auto* pattern = schema.if_contains("pattern");
    return pattern == nullptr || std::regex_search(value, std::regex(text(*pattern)));
  }

  bool array(const json::Array& value, const json::Object& schema) const {
    const auto size = static_cast<std::int64_t>(value.size());
    if (const auto* least = schema.if_contains("minItems"); least && size < least->as_int64()) {
      return false;
    }
    if (const auto* most = schema.if_contains("maxItems"); most && size > most->as_int64()) {
      return false;
    }
    std::size_t i = 0;
    if (const auto* prefix = schema.if_contains("prefixItems")) {
      for (; i < value.size() && i < prefix->as_array().size(); ++i) {
        if (!conforms(value[i], prefix->as_array()[i])) return false;
      }
    }
    const auto* items = schema.if_contains("items");
    for (; items != nullptr && i < value.size(); ++i) {
      if (!conforms(value[i], *items)) return false;
    }
    return true;
  }

  bool object(const json::Object& value, const json::Object& schema) const {
    if (const auto* required = schema.if_contains("required")) {
      for (const json::Value& name : required->as_array()) {
        if (!value.contains(text(name))) return false;
      }
    }
    const auto* properties = schema.if_contains("properties");
    const auto* additional = schema.if_contains("additionalProperties");
    for (const auto& member : value) {
      const json::Value* known =
          properties == nullptr ? nullptr : properties->as_object().if_contains(member.key());
      const json::Value* its_schema = known != nullptr ? known : additional;
      if (its_schema != nullptr && !conforms(member.value(), *its_schema)) return false;
    }
    return true;
  }

  const json::Value& root_;
};

}  // namespace liquidgemm::testing

#include "engine/grammar/schema_overlap.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/grammar/schema_keywords.h"

namespace liquidgemm {
namespace {

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

}  // namespace

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

}  // namespace liquidgemm

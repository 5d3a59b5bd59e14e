// Which keywords of JSON Schema say something about an answer.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "liquidgemm/status.h"

namespace liquidgemm {

// An error that names the keyword if the schema says something that answers could not be kept to.
// Keywords that JSON Schema does not know, and those that only describe, are let through.
Status check_keywords(const json::Object& schema, std::string_view path);

enum class SchemaType { kNull, kBoolean, kInteger, kNumber, kString, kArray, kObject };
bool parse_schema_type(std::string_view name, SchemaType& type);

// The types that the schema's other keywords are about: {} if they are about none.
std::vector<SchemaType> types_by_keywords(const json::Object& schema);
// Whether `value` is of this type; 3.0 is an integer too.
bool is_of_type(const json::Value& value, SchemaType type);
// The value as an answer has it: JSON without spaces, numbers in their shortest form.
void append_literal(const json::Value& value, std::string& out);

}  // namespace liquidgemm

// JSON as this project reads it: strict, bounded, and with errors that name file and field.
//
// Boost.JSON parses; on top of it: duplicate names are refused (a header that says two things is
// lying), numbers must be finite (1e999 would read as infinity), depth and size are limited.
#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "liquidgemm/status.h"

namespace liquidgemm::json {

using Value = boost::json::value;
using Object = boost::json::object;
using Array = boost::json::array;

struct Limits {
  std::size_t max_bytes = 64u << 20;
  std::size_t max_depth = 64;
};

// `where` names the file in messages.
Result<Value> parse(std::string_view text, const std::string& where, const Limits& limits = {});
Result<Value> parse_file(const std::string& path, const Limits& limits = {});
// "a string", "a list", "null": for messages.
std::string_view kind_name(const Value& value);
std::string dump(const Value& value);         // one line
std::string dump_pretty(const Value& value);  // two-space indent, for files people read

// Fields of one object, read with their types and ranges checked. Messages read
// "config.json: field \"rope_theta\": expected a finite number, found a string".
class Reader {
 public:
  // The object must outlive the reader. `path` is the field's path from the root ("" at the root).
  Reader(const Object& object, std::string where, std::string path = "");

  const Object& object() const { return object_; }
  std::string field(std::string_view name) const;  // "file: field \"a.b\""

  // Missing or null gives nothing; of the wrong type or outside [low, high] gives an error.
  Result<std::optional<std::int64_t>> optional_int(std::string_view name, std::int64_t low,
                                                   std::int64_t high) const;
  Result<std::optional<double>> optional_number(std::string_view name, double low,
                                                double high) const;
  Result<std::optional<bool>> optional_bool(std::string_view name) const;
  Result<std::optional<std::string>> optional_string(std::string_view name) const;
  Result<const Object*> optional_object(std::string_view name) const;  // nullptr when missing
  Result<const Array*> optional_array(std::string_view name) const;    // nullptr when missing

  // The same, but missing is an error too.
  Result<std::int64_t> required_int(std::string_view name, std::int64_t low,
                                    std::int64_t high) const;
  Result<double> required_number(std::string_view name, double low, double high) const;
  Result<std::string> required_string(std::string_view name) const;
  Result<const Object*> required_object(std::string_view name) const;
  Result<const Array*> required_array(std::string_view name) const;

 private:
  const Object& object_;
  std::string where_;
  std::string path_;
};

}  // namespace liquidgemm::json

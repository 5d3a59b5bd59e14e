// Fields of one JSON object of a request, each read once with its type and range checked.
//
// The first error is kept and everything after it reads as missing, so that a parser is a plain
// list of fields with one check at its end.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "server/api_error.h"

namespace liquidgemm::server {

class RequestFields {
 public:
  // The object and `error` outlive this. `path` is put before names: "messages[0]".
  RequestFields(const json::Object& object, std::string path, std::optional<ApiError>& error);

  // The fields of an object inside this one; errors are kept together.
  RequestFields inside(const json::Object& object, std::string_view name) {
    return {object, path_of(name), error_};
  }

  bool ok() const { return !error_.has_value(); }
  // "messages[0].role"
  std::string path_of(std::string_view name) const;
  // Keeps the error unless there is one already. The message begins with the field's path.
  void fail(std::string_view name, std::string_view problem);

  // Missing and null read as nothing everywhere.
  const json::Value* value(std::string_view name);
  std::optional<std::int64_t> integer(std::string_view name, std::int64_t low, std::int64_t high);
  std::optional<double> number(std::string_view name, double low, double high);
  std::optional<bool> boolean(std::string_view name);
  std::optional<std::string> string(std::string_view name, std::size_t max_bytes);
  const json::Object* object(std::string_view name);
  const json::Array* array(std::string_view name, std::size_t max_items);
  // A string, or a list of them.
  std::vector<std::string> strings(std::string_view name, std::size_t max_items,
                                   std::size_t max_bytes);

  // Known, but not supported: an error unless it is missing, null or one of `neutral` (JSON texts).
  // `hint` says what to do instead.
  void unsupported(std::string_view name, std::initializer_list<std::string_view> neutral = {},
                   std::string_view hint = {});

  // The names that no call above has asked for, at most kMaxUnknown of them, each cut short.
  std::vector<std::string> unknown() const;
  static constexpr std::size_t kMaxUnknown = 16;
  static constexpr std::size_t kMaxUnknownBytes = 64;

 private:
  template <typename T>
  std::optional<T> take(std::string_view name, Result<std::optional<T>> result);

  const json::Object& object_;
  json::Reader reader_;
  std::string path_;
  std::optional<ApiError>& error_;
  std::vector<std::string_view> known_;
};

// What JSON Schema calls an integer: 3, but 3.0 and 3e0 too, as clients without integers write it.
// Nothing for other values and for what 64 bits with a sign cannot hold.
std::optional<std::int64_t> whole_number(const json::Value& value);

}  // namespace liquidgemm::server

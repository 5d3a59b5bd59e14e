#include "server/request_fields.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace liquidgemm::server {
namespace {

// json::Reader puts this and the field before its messages; here the field's path comes first.
constexpr std::string_view kWhere = "request";

}  // namespace

std::optional<std::int64_t> whole_number(const json::Value& value) {
  if (value.is_int64()) return value.get_int64();
  if (!value.is_double()) return std::nullopt;
  const double number = value.get_double();
  // Without the ends, which integers too large for 64 bits are rounded to.
  if (!(number > -0x1p63 && number < 0x1p63) || std::trunc(number) != number) return std::nullopt;
  return static_cast<std::int64_t>(number);
}

RequestFields::RequestFields(const json::Object& object, std::string path,
                             std::optional<ApiError>& error)
    : object_(object),
      reader_(object, std::string(kWhere)),
      path_(std::move(path)),
      error_(error) {}

std::string RequestFields::path_of(std::string_view name) const {
  if (path_.empty()) return std::string(name);
  return name.empty() ? path_ : path_ + "." + std::string(name);
}

void RequestFields::fail(std::string_view name, std::string_view problem) {
  if (error_) return;
  std::string path = path_of(name);
  std::string message = path + ": " + std::string(problem);
  error_ = bad_request(std::move(path), std::move(message));
}

const json::Value* RequestFields::value(std::string_view name) {
  known_.push_back(name);
  if (!ok()) return nullptr;
  const json::Value* found = object_.if_contains(name);
  return found == nullptr || found->is_null() ? nullptr : found;
}

template <typename T>
std::optional<T> RequestFields::take(std::string_view name, Result<std::optional<T>> result) {
  known_.push_back(name);
  if (!ok()) return std::nullopt;
  if (result.ok()) return std::move(*result);
  std::string_view message = result.status().message();
  const std::size_t where = reader_.field(name).size();
  message.remove_prefix(std::min(message.size(), where));
  message.remove_prefix(std::min(message.size(), message.find_first_not_of(": ")));
  fail(name, message);
  return std::nullopt;
}

std::optional<std::int64_t> RequestFields::integer(std::string_view name, std::int64_t low,
                                                   std::int64_t high) {
  const json::Value* found = value(name);
  if (found == nullptr) return std::nullopt;
  const auto number = whole_number(*found);
  if (number && *number >= low && *number <= high) return number;
  fail(name, "expected a whole number from " + std::to_string(low) + " to " + std::to_string(high) +
                 ", found " +
                 (found->is_number() ? json::dump(*found) : std::string(json::kind_name(*found))));
  return std::nullopt;
}

std::optional<double> RequestFields::number(std::string_view name, double low, double high) {
  return take(name, reader_.optional_number(name, low, high));
}

std::optional<bool> RequestFields::boolean(std::string_view name) {
  return take(name, reader_.optional_bool(name));
}

std::optional<std::string> RequestFields::string(std::string_view name, std::size_t max_bytes) {
  const json::Value* found = value(name);
  if (found == nullptr) return std::nullopt;
  if (!found->is_string()) {
    fail(name, "expected a string, found " + std::string(json::kind_name(*found)));
    return std::nullopt;
  }
  const std::string_view text = found->get_string();
  if (text.size() > max_bytes) {
    fail(name, std::to_string(text.size()) + " bytes, at most " + std::to_string(max_bytes) +
                   " are accepted");
    return std::nullopt;
  }
  return std::string(text);
}

const json::Object* RequestFields::object(std::string_view name) {
  const json::Value* found = value(name);
  if (found == nullptr) return nullptr;
  if (!found->is_object()) {
    fail(name, "expected an object, found " + std::string(json::kind_name(*found)));
    return nullptr;
  }
  return &found->get_object();
}

const json::Array* RequestFields::array(std::string_view name, std::size_t max_items) {
  const json::Value* found = value(name);
  if (found == nullptr) return nullptr;
  if (!found->is_array()) {
    fail(name, "expected a list, found " + std::string(json::kind_name(*found)));
    return nullptr;
  }
  const json::Array& list = found->get_array();
  if (list.size() > max_items) {
    fail(name, std::to_string(list.size()) + " items, at most " + std::to_string(max_items) +
                   " are accepted");
    return nullptr;
  }
  return &list;
}

std::vector<std::string> RequestFields::strings(std::string_view name, std::size_t max_items,
                                                std::size_t max_bytes) {
  const json::Value* found = value(name);
  if (found == nullptr) return {};
  std::vector<std::string> result;
  if (found->is_string()) {
    if (const auto text = string(name, max_bytes)) result.push_back(*text);
    return result;
  }
  if (!found->is_array()) {
    fail(name,
         "expected a string or a list of strings, found " + std::string(json::kind_name(*found)));
    return {};
  }
  const json::Array* list = array(name, max_items);
  if (list == nullptr) return {};
  for (std::size_t i = 0; i < list->size(); ++i) {
    const json::Value& item = (*list)[i];
    const std::string at = std::string(name) + "[" + std::to_string(i) + "]";
    if (!item.is_string()) {
      fail(at, "expected a string, found " + std::string(json::kind_name(item)));
      return {};
    }
    if (item.get_string().size() > max_bytes) {
      fail(at, std::to_string(item.get_string().size()) + " bytes, at most " +
                   std::to_string(max_bytes) + " are accepted");
      return {};
    }
    result.emplace_back(item.get_string());
  }
  return result;
}

void RequestFields::unsupported(std::string_view name,
                                std::initializer_list<std::string_view> neutral,
                                std::string_view hint) {
  const json::Value* found = value(name);
  if (found == nullptr) return;
  // Only short values can be neutral; a long one is not worth printing.
  const bool is_short = !(found->is_string() && found->get_string().size() > kMaxUnknownBytes) &&
                        !(found->is_array() && found->get_array().size() > 1) &&
                        !(found->is_object() && !found->get_object().empty());
  if (is_short) {
    const std::string text = json::dump(*found);
    if (std::find(neutral.begin(), neutral.end(), text) != neutral.end()) return;
  }
  std::string problem = "not supported";
  if (neutral.size() > 0) problem += " but as " + std::string(*neutral.begin());
  if (!hint.empty()) problem += "; " + std::string(hint);
  fail(name, problem);
}

std::vector<std::string> RequestFields::unknown() const {
  std::vector<std::string> names;
  for (const auto& member : object_) {
    const std::string_view name = member.key();
    if (std::find(known_.begin(), known_.end(), name) != known_.end()) continue;
    names.emplace_back(name.substr(0, kMaxUnknownBytes));
    if (names.size() == kMaxUnknown) break;
  }
  return names;
}

}  // namespace liquidgemm::server

#include "base/json.h"

#include <boost/json/basic_parser_impl.hpp>
#include <boost/json/serialize.hpp>
#include <cmath>
#include <new>
#include <utility>

#include "base/mapped_file.h"
#include "base/status_macros.h"

namespace liquidgemm::json {
namespace {

// Builds the value while parsing, so that a duplicate name is seen where it happens.
class Handler {
 public:
  static constexpr std::size_t max_object_size = 8u << 20;
  static constexpr std::size_t max_array_size = 8u << 20;
  static constexpr std::size_t max_key_size = 1u << 20;
  static constexpr std::size_t max_string_size = 16u << 20;
  using error_code = boost::json::error_code;

  Value take() { return std::move(root_); }
  const std::string& problem() const { return problem_; }

  bool on_document_begin(error_code&) { return true; }
  bool on_document_end(error_code&) { return true; }
  bool on_object_begin(error_code&) { return open(Object()); }
  bool on_object_end(std::size_t, error_code& ec) { return close(ec); }
  bool on_array_begin(error_code&) { return open(Array()); }
  bool on_array_end(std::size_t, error_code& ec) { return close(ec); }
  bool on_key_part(boost::json::string_view part, std::size_t, error_code&) {
    text_.append(part.data(), part.size());
    return true;
  }
  bool on_key(boost::json::string_view part, std::size_t, error_code& ec) {
    text_.append(part.data(), part.size());
    Frame& top = stack_.back();
    if (top.value.get_object().contains(text_)) {
      return fail(ec, "the name \"" + text_.substr(0, 80) + "\" appears twice in one object");
    }
    top.key = std::exchange(text_, {});
    return true;
  }
  bool on_string_part(boost::json::string_view part, std::size_t, error_code&) {
    text_.append(part.data(), part.size());
    return true;
  }
  bool on_string(boost::json::string_view part, std::size_t, error_code& ec) {
    text_.append(part.data(), part.size());
    return add(Value(boost::json::string(std::exchange(text_, {}))), ec);
  }
  bool on_number_part(boost::json::string_view, error_code&) { return true; }
  bool on_int64(std::int64_t number, boost::json::string_view, error_code& ec) {
    return add(Value(number), ec);
  }
  bool on_uint64(std::uint64_t number, boost::json::string_view, error_code& ec) {
    return add(Value(number), ec);
  }
  bool on_double(double number, boost::json::string_view, error_code& ec) {
    if (!std::isfinite(number)) return fail(ec, "a number is too large for a double");
    return add(Value(number), ec);
  }
  bool on_bool(bool value, error_code& ec) { return add(Value(value), ec); }
  bool on_null(error_code& ec) { return add(Value(nullptr), ec); }
  bool on_comment_part(boost::json::string_view, error_code&) { return true; }
  bool on_comment(boost::json::string_view, error_code&) { return true; }

 private:
  struct Frame {
    Value value;
    std::string key;
  };

  bool fail(error_code& ec, std::string problem) {
    problem_ = std::move(problem);
    ec = boost::json::error::syntax;
    return false;
  }
  bool open(Value container) {
    stack_.push_back({std::move(container), {}});
    return true;
  }
  bool close(error_code& ec) {
    Value value = std::move(stack_.back().value);
    stack_.pop_back();
    return add(std::move(value), ec);
  }
  bool add(Value value, error_code&) {
    if (stack_.empty()) {
      root_ = std::move(value);
    } else if (Frame& top = stack_.back(); top.value.is_array()) {
      top.value.get_array().push_back(std::move(value));
    } else {
      top.value.get_object().emplace(top.key, std::move(value));
    }
    return true;
  }

  std::vector<Frame> stack_;
  std::string text_;
  std::string problem_;
  Value root_;
};

std::string number_text(double number) {
  if (number == std::floor(number) && std::fabs(number) < 1e15) {
    return std::to_string(static_cast<std::int64_t>(number));
  }
  return std::to_string(number);
}

void write_pretty(const Value& value, const std::string& indent, std::string& out) {
  const std::string inner = indent + "  ";
  if (const Object* object = value.if_object(); object != nullptr && !object->empty()) {
    out += "{\n";
    std::size_t left = object->size();
    for (const auto& member : *object) {
      out += inner + boost::json::serialize(Value(member.key())) + ": ";
      write_pretty(member.value(), inner, out);
      out += --left > 0 ? ",\n" : "\n";
    }
    out += indent + "}";
  } else if (const Array* array = value.if_array(); array != nullptr && !array->empty()) {
    out += "[\n";
    std::size_t left = array->size();
    for (const Value& element : *array) {
      out += inner;
      write_pretty(element, inner, out);
      out += --left > 0 ? ",\n" : "\n";
    }
    out += indent + "]";
  } else {
    out += boost::json::serialize(value);
  }
}

}  // namespace

std::string_view kind_name(const Value& value) {
  switch (value.kind()) {
    case boost::json::kind::null: return "null";
    case boost::json::kind::bool_: return "a boolean";
    case boost::json::kind::int64:
    case boost::json::kind::uint64:
    case boost::json::kind::double_: return "a number";
    case boost::json::kind::string: return "a string";
    case boost::json::kind::array: return "a list";
    case boost::json::kind::object: return "an object";
  }
  return "something else";
}

Result<Value> parse(std::string_view text, const std::string& where, const Limits& limits) {
  if (text.size() > limits.max_bytes) {
    return resource_exhausted(where + ": " + std::to_string(text.size()) +
                              " bytes of JSON, at most " + std::to_string(limits.max_bytes) +
                              " are accepted");
  }
  try {
    boost::json::parse_options options;
    options.max_depth = limits.max_depth;
    boost::json::basic_parser<Handler> parser(options);
    boost::json::error_code error;
    const std::size_t used = parser.write_some(false, text.data(), text.size(), error);
    if (!error && used < text.size()) {
      return corrupt(where + ": not valid JSON at byte " + std::to_string(used) +
                     ": text after the end of the document");
    }
    if (error) {
      const std::string& problem = parser.handler().problem();
      return corrupt(where + ": not valid JSON at byte " + std::to_string(used) + ": " +
                     (problem.empty() ? error.message() : problem));
    }
    if (!parser.done()) return corrupt(where + ": not valid JSON: it ends too early");
    return parser.handler().take();
  } catch (const std::bad_alloc&) {
    return resource_exhausted(where + ": out of memory while reading JSON");
  } catch (const std::exception& error) {
    return corrupt(where + ": not valid JSON: " + error.what());
  }
}

Result<Value> parse_file(const std::string& path, const Limits& limits) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::string text, read_text_file(path, limits.max_bytes));
  return parse(text, path, limits);
}

std::string dump(const Value& value) { return boost::json::serialize(value); }

std::string dump_pretty(const Value& value) {
  std::string text;
  write_pretty(value, "", text);
  return text + "\n";
}

Reader::Reader(const Object& object, std::string where, std::string path)
    : object_(object), where_(std::move(where)), path_(std::move(path)) {}

std::string Reader::field(std::string_view name) const {
  std::string text = where_ + ": field \"";
  if (!path_.empty()) text += path_ + ".";
  return text + std::string(name) + "\"";
}

namespace {

// The member, or nullptr when it is missing or null.
const Value* present(const Object& object, std::string_view name) {
  const Value* value = object.if_contains(name);
  return value == nullptr || value->is_null() ? nullptr : value;
}

Status wrong_type(const Reader& reader, std::string_view name, std::string_view expected,
                  const Value& found) {
  return corrupt(reader.field(name) + ": expected " + std::string(expected) + ", found " +
                 std::string(kind_name(found)));
}

template <typename T>
Result<T> require(const Reader& reader, std::string_view name, Result<std::optional<T>> result) {
  if (!result.ok()) return result.status();
  if (!result->has_value()) return corrupt(reader.field(name) + " is missing");
  return std::move(**result);
}

template <typename T>
Result<const T*> require(const Reader& reader, std::string_view name, Result<const T*> result) {
  if (result.ok() && *result == nullptr) return corrupt(reader.field(name) + " is missing");
  return result;
}

}  // namespace

Result<std::optional<std::int64_t>> Reader::optional_int(std::string_view name, std::int64_t low,
                                                         std::int64_t high) const {
  const Value* value = present(object_, name);
  if (value == nullptr) return std::optional<std::int64_t>();
  const std::string expected =
      "a whole number from " + std::to_string(low) + " to " + std::to_string(high);
  if (value->is_uint64()) {
    return corrupt(field(name) + ": expected " + expected + ", found " + dump(*value));
  }
  if (!value->is_int64()) {
    if (value->is_double()) {
      return corrupt(field(name) + ": expected " + expected + ", found " + dump(*value));
    }
    return wrong_type(*this, name, expected, *value);
  }
  const std::int64_t number = value->get_int64();
  if (number < low || number > high) {
    return corrupt(field(name) + ": expected " + expected + ", found " + std::to_string(number));
  }
  return std::optional<std::int64_t>(number);
}

Result<std::optional<double>> Reader::optional_number(std::string_view name, double low,
                                                      double high) const {
  const Value* value = present(object_, name);
  if (value == nullptr) return std::optional<double>();
  double number = 0.0;
  if (value->is_double()) {
    number = value->get_double();
  } else if (value->is_int64()) {
    number = static_cast<double>(value->get_int64());
  } else if (value->is_uint64()) {
    number = static_cast<double>(value->get_uint64());
  } else {
    return wrong_type(*this, name, "a number", *value);
  }
  if (!(number >= low && number <= high)) {
    return corrupt(field(name) + ": expected a number from " + number_text(low) + " to " +
                   number_text(high) + ", found " + dump(*value));
  }
  return std::optional<double>(number);
}

Result<std::optional<bool>> Reader::optional_bool(std::string_view name) const {
  const Value* value = present(object_, name);
  if (value == nullptr) return std::optional<bool>();
  if (!value->is_bool()) return wrong_type(*this, name, "true or false", *value);
  return std::optional<bool>(value->get_bool());
}

Result<std::optional<std::string>> Reader::optional_string(std::string_view name) const {
  const Value* value = present(object_, name);
  if (value == nullptr) return std::optional<std::string>();
  if (!value->is_string()) return wrong_type(*this, name, "a string", *value);
  return std::optional<std::string>(std::string(value->get_string()));
}

Result<const Object*> Reader::optional_object(std::string_view name) const {
  const Value* value = present(object_, name);
  if (value == nullptr) return static_cast<const Object*>(nullptr);
  if (!value->is_object()) return wrong_type(*this, name, "an object", *value);
  return &value->get_object();
}

Result<const Array*> Reader::optional_array(std::string_view name) const {
  const Value* value = present(object_, name);
  if (value == nullptr) return static_cast<const Array*>(nullptr);
  if (!value->is_array()) return wrong_type(*this, name, "a list", *value);
  return &value->get_array();
}

Result<std::int64_t> Reader::required_int(std::string_view name, std::int64_t low,
                                          std::int64_t high) const {
  return require(*this, name, optional_int(name, low, high));
}

Result<double> Reader::required_number(std::string_view name, double low, double high) const {
  return require(*this, name, optional_number(name, low, high));
}

Result<std::string> Reader::required_string(std::string_view name) const {
  return require(*this, name, optional_string(name));
}

Result<const Object*> Reader::required_object(std::string_view name) const {
  return require(*this, name, optional_object(name));
}

Result<const Array*> Reader::required_array(std::string_view name) const {
  return require(*this, name, optional_array(name));
}

}  // namespace liquidgemm::json

#include "model/chat/interpreter.h"

namespace liquidgemm::chat {

// Values outside 64 signed bits become floating point, as larger ones do in the JSON reader.
bool from_json(const json::Value& json, int max_depth, Value* out) {
  if (max_depth <= 0) return false;
  switch (json.kind()) {
    case boost::json::kind::null: *out = Value::none(); return true;
    case boost::json::kind::bool_: *out = Value::boolean(json.get_bool()); return true;
    case boost::json::kind::int64: *out = Value::integer(json.get_int64()); return true;
    case boost::json::kind::uint64: {
      const std::uint64_t value = json.get_uint64();
      *out = value <= INT64_MAX ? Value::integer(static_cast<std::int64_t>(value))
                                : Value::real(static_cast<double>(value));
      return true;
    }
    case boost::json::kind::double_: *out = Value::real(json.get_double()); return true;
    case boost::json::kind::string:
      *out = Value::string(std::string(json.get_string().data(), json.get_string().size()));
      return true;
    case boost::json::kind::array: {
      std::vector<Value> items(json.get_array().size());
      for (std::size_t i = 0; i < items.size(); ++i) {
        if (!from_json(json.get_array()[i], max_depth - 1, &items[i])) return false;
      }
      *out = Value::sequence(Kind::kList, std::move(items));
      return true;
    }
    case boost::json::kind::object: {
      auto dict = std::make_shared<Dict>();
      for (const auto& entry : json.get_object()) {
        Value value;
        if (!from_json(entry.value(), max_depth - 1, &value)) return false;
        dict->set(Value::string(std::string(entry.key().data(), entry.key().size())),
                  std::move(value));
      }
      *out = Value::dict(std::move(dict));
      return true;
    }
  }
  return false;
}

}  // namespace liquidgemm::chat

// Typed access to GGUF's metadata.
#include <cmath>
#include <cstring>

#include "base/status_macros.h"
#include "model/checkpoint/gguf.h"
#include "model/checkpoint/printable.h"

namespace liquidgemm {
namespace {

std::string_view type_text(const GgufValue& value) {
  constexpr std::string_view kNames[] = {"an integer", "an integer", "a number",
                                         "a bool",     "a string",   "an array"};
  return kNames[value.index()];
}

template <typename T>
std::int64_t element(const GgufArray& array, std::uint64_t i) {
  T value;
  std::memcpy(&value, array.bytes.data() + i * sizeof(T), sizeof(T));
  return static_cast<std::int64_t>(value);
}

}  // namespace

std::string GgufMetadata::field(std::string_view key) const {
  return where_ + ": field " + printable(key);
}

const GgufValue* GgufMetadata::find(std::string_view key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

bool GgufMetadata::add(std::string_view key, GgufValue value) {
  return values_.emplace(key, value).second;
}

Status GgufMetadata::wrong_type(std::string_view key, std::string_view expected) const {
  return corrupt(field(key) + ": expected " + std::string(expected) + ", found " +
                 std::string(type_text(*find(key))));
}

template <typename T>
Result<const T*> GgufMetadata::optional_as(std::string_view key, std::string_view expected) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return static_cast<const T*>(nullptr);
  const T* typed = std::get_if<T>(value);
  if (typed == nullptr) return wrong_type(key, expected);
  return typed;
}

Result<std::optional<std::int64_t>> GgufMetadata::optional_int(std::string_view key,
                                                               std::int64_t low,
                                                               std::int64_t high) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::optional<std::int64_t>();
  std::int64_t number = 0;
  std::string text;
  bool fits = true;
  if (const auto* wide = std::get_if<std::uint64_t>(value)) {
    number = static_cast<std::int64_t>(*wide);
    fits = *wide <= static_cast<std::uint64_t>(INT64_MAX);
    text = std::to_string(*wide);
  } else if (const auto* narrow = std::get_if<std::int64_t>(value)) {
    number = *narrow;
    text = std::to_string(*narrow);
  } else {
    return wrong_type(key, "an integer");
  }
  if (!fits || number < low || number > high) {
    return corrupt(field(key) + ": expected " + std::to_string(low) + " to " +
                   std::to_string(high) + ", found " + text);
  }
  return std::optional(number);
}

Result<std::optional<double>> GgufMetadata::optional_number(std::string_view key, double low,
                                                            double high) const {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const double* value, optional_as<double>(key, "a number"));
  if (value == nullptr) return std::optional<double>();
  if (!std::isfinite(*value) || *value < low || *value > high) {
    return corrupt(field(key) + ": expected " + std::to_string(low) + " to " +
                   std::to_string(high) + ", found " + std::to_string(*value));
  }
  return std::optional(*value);
}

Result<std::optional<bool>> GgufMetadata::optional_bool(std::string_view key) const {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const bool* value, optional_as<bool>(key, "a bool"));
  return value == nullptr ? std::optional<bool>() : std::optional(*value);
}

Result<std::optional<std::string>> GgufMetadata::optional_string(std::string_view key) const {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::string_view* value,
                              optional_as<std::string_view>(key, "a string"));
  if (value == nullptr) return std::optional<std::string>();
  return std::optional(std::string(*value));
}

Result<std::int64_t> GgufMetadata::required_int(std::string_view key, std::int64_t low,
                                                std::int64_t high) const {
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto value, optional_int(key, low, high));
  if (!value) return corrupt(field(key) + ": missing");
  return *value;
}

Result<std::string> GgufMetadata::required_string(std::string_view key) const {
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto value, optional_string(key));
  if (!value) return corrupt(field(key) + ": missing");
  return *std::move(value);
}

Result<std::vector<std::string_view>> GgufMetadata::required_strings(std::string_view key,
                                                                     std::size_t most) const {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const GgufArray* array,
                              optional_as<GgufArray>(key, "an array of strings"));
  if (array == nullptr) return corrupt(field(key) + ": missing");
  if (array->type != GgufType::kString) {
    return corrupt(field(key) + ": expected an array of strings, found one of " +
                   std::string(gguf_type_name(array->type)));
  }
  if (array->count > most) {
    return resource_exhausted(field(key) + ": " + std::to_string(array->count) +
                              " entries, at most " + std::to_string(most) + " are accepted");
  }
  // The parser has checked that every string lies inside.
  std::vector<std::string_view> strings;
  strings.reserve(array->count);
  const std::byte* at = array->bytes.data();
  for (std::uint64_t i = 0; i < array->count; ++i) {
    std::uint64_t length = 0;
    std::memcpy(&length, at, sizeof(length));
    at += sizeof(length);
    strings.emplace_back(reinterpret_cast<const char*>(at), length);
    at += length;
  }
  return strings;
}

Result<std::vector<std::int64_t>> GgufMetadata::optional_ints(std::string_view key,
                                                              std::size_t most) const {
  std::vector<std::int64_t> numbers;
  LIQUIDGEMM_ASSIGN_OR_RETURN(const GgufArray* array,
                              optional_as<GgufArray>(key, "an array of integers"));
  if (array == nullptr) return numbers;
  if (array->count > most) {
    return resource_exhausted(field(key) + ": " + std::to_string(array->count) +
                              " entries, at most " + std::to_string(most) + " are accepted");
  }
  std::int64_t (*read)(const GgufArray&, std::uint64_t) = nullptr;
  switch (array->type) {
    case GgufType::kUint8: read = element<std::uint8_t>; break;
    case GgufType::kInt8: read = element<std::int8_t>; break;
    case GgufType::kUint16: read = element<std::uint16_t>; break;
    case GgufType::kInt16: read = element<std::int16_t>; break;
    case GgufType::kUint32: read = element<std::uint32_t>; break;
    case GgufType::kInt32: read = element<std::int32_t>; break;
    case GgufType::kInt64: read = element<std::int64_t>; break;
    default:
      return corrupt(field(key) + ": expected an array of integers, found one of " +
                     std::string(gguf_type_name(array->type)));
  }
  numbers.reserve(array->count);
  for (std::uint64_t i = 0; i < array->count; ++i) numbers.push_back(read(*array, i));
  return numbers;
}

}  // namespace liquidgemm

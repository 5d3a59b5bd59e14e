#include "model/checkpoint/safetensors.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/json.h"
#include "base/status_macros.h"
#include "model/checkpoint/printable.h"

namespace liquidgemm {
namespace {

constexpr std::size_t kLengthBytes = 8;
constexpr std::size_t kMostDimensions = 8;

std::optional<DType> parse_dtype(std::string_view name) {
  constexpr DType kStored[] = {DType::kF64, DType::kF32, DType::kF16, DType::kBF16, DType::kI64,
                               DType::kI32, DType::kI16, DType::kI8,  DType::kU8,   DType::kBool};
  for (DType dtype : kStored) {
    if (dtype_name(dtype) == name) return dtype;
  }
  return std::nullopt;
}

// A count or an offset; nothing for anything else, negative numbers and fractions included.
std::optional<std::int64_t> parse_count(const json::Value& value) {
  const std::int64_t* number = value.if_int64();
  return number != nullptr && *number >= 0 ? std::optional(*number) : std::nullopt;
}

// One entry of the header. `data_size` is the number of bytes after the header.
class EntryParser {
 public:
  EntryParser(std::string_view name, const json::Value& value, const std::string& where)
      : name_(name), value_(value), where_(where) {}

  Result<StoredTensor> parse(std::size_t data_begin, std::size_t data_size) const {
    const json::Object* object = value_.if_object();
    if (object == nullptr) return wrong("expected an object");
    StoredTensor tensor;
    tensor.info.name = std::string(name_);
    LIQUIDGEMM_ASSIGN_OR_RETURN(tensor.info.dtype, dtype(*object));
    LIQUIDGEMM_ASSIGN_OR_RETURN(tensor.info.shape, shape(*object));
    const auto bytes = tensor_bytes(tensor.info.dtype, tensor.info.shape);
    if (!bytes)
      return wrong("the product of shape " + shape_string(tensor.info.shape) + " overflows");
    tensor.info.bytes = *bytes;

    const json::Value* offsets = object->if_contains("data_offsets");
    const json::Array* pair = offsets == nullptr ? nullptr : offsets->if_array();
    if (pair == nullptr || pair->size() != 2) {
      return wrong("field \"data_offsets\": expected a list of two numbers");
    }
    const auto begin = parse_count((*pair)[0]);
    const auto end = parse_count((*pair)[1]);
    if (!begin || !end) return wrong("field \"data_offsets\": expected two integers, 0 or larger");
    const std::string range = "[" + std::to_string(*begin) + ", " + std::to_string(*end) + ")";
    if (*end < *begin) return wrong("data_offsets " + range + " end before they begin");
    if (static_cast<std::uint64_t>(*end) > data_size) {
      return wrong("data_offsets " + range + " leave the file, which holds " +
                   std::to_string(data_size) + " bytes of data; is the download complete?");
    }
    if (*end - *begin != *bytes) {
      return wrong("data_offsets " + range + " hold " + std::to_string(*end - *begin) +
                   " bytes, but " + std::string(dtype_name(tensor.info.dtype)) + " " +
                   shape_string(tensor.info.shape) + " needs " + std::to_string(*bytes));
    }
    tensor.begin = data_begin + static_cast<std::size_t>(*begin);
    return tensor;
  }

 private:
  Status wrong(const std::string& message) const {
    return corrupt(where_ + ": tensor " + printable(name_) + ": " + message);
  }

  Result<DType> dtype(const json::Object& object) const {
    const json::Value* value = object.if_contains("dtype");
    const auto* text = value == nullptr ? nullptr : value->if_string();
    if (text == nullptr) return wrong("field \"dtype\": expected a string");
    const auto found = parse_dtype(std::string_view(text->data(), text->size()));
    if (!found) {
      return unsupported(where_ + ": tensor " + printable(name_) + ": type " +
                         printable(std::string_view(text->data(), text->size())) +
                         " is not supported; supported are F64, F32, F16, BF16, I64, I32, I16, "
                         "I8, U8 and BOOL");
    }
    return *found;
  }

  Result<Shape> shape(const json::Object& object) const {
    const json::Value* value = object.if_contains("shape");
    const json::Array* list = value == nullptr ? nullptr : value->if_array();
    if (list == nullptr || list->size() > kMostDimensions) {
      return wrong("field \"shape\": expected a list of at most 8 sizes");
    }
    Shape shape;
    for (const json::Value& item : *list) {
      const auto size = parse_count(item);
      if (!size) return wrong("field \"shape\": expected integers, 0 or larger");
      shape.push_back(*size);
    }
    return shape;
  }

  std::string_view name_;
  const json::Value& value_;
  const std::string& where_;
};

// `tensors` are sorted by their place.
Status check_tiling(const std::vector<StoredTensor>& tensors, std::size_t data_begin,
                    std::size_t file_size, const std::string& where) {
  std::size_t expected = data_begin;
  const StoredTensor* before = nullptr;
  for (const StoredTensor& tensor : tensors) {
    if (tensor.begin < expected) {
      return corrupt(where + ": tensors " + printable(before->info.name) + " and " +
                     printable(tensor.info.name) + " overlap");
    }
    if (tensor.begin > expected) {
      return corrupt(where + ": " + std::to_string(tensor.begin - expected) +
                     " bytes before tensor " + printable(tensor.info.name) +
                     " belong to no tensor");
    }
    expected = tensor.begin + static_cast<std::size_t>(tensor.info.bytes);
    before = &tensor;
  }
  if (expected != file_size) {
    return corrupt(where + ": " + std::to_string(file_size - expected) +
                   " bytes at the end belong to no tensor");
  }
  return ok_status();
}

Status check_metadata(const json::Value& value, const std::string& where) {
  const json::Object* map = value.if_object();
  if (map != nullptr && std::all_of(map->begin(), map->end(),
                                    [](auto& entry) { return entry.value().is_string(); })) {
    return ok_status();
  }
  return corrupt(where + ": field \"__metadata__\": expected a map of strings");
}

Result<std::size_t> header_length(std::span<const std::byte> file, const std::string& where) {
  if (file.size() < kLengthBytes) {
    return corrupt(where + ": " + std::to_string(file.size()) +
                   " bytes are too few for a safetensors file; is the download complete?");
  }
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < kLengthBytes; ++i) {
    length |= std::to_integer<std::uint64_t>(file[i]) << (8 * i);
  }
  if (length < 2)
    return corrupt(where + ": the header is " + std::to_string(length) + " bytes long");
  if (length > file.size() - kLengthBytes) {
    return corrupt(where + ": the header claims " + std::to_string(length) +
                   " bytes, the file has " + std::to_string(file.size()) +
                   "; is it a safetensors file, and is the download complete?");
  }
  if (length > kMaxSafetensorsHeader) {
    return resource_exhausted(where + ": the header has " + std::to_string(length) +
                              " bytes, at most " + std::to_string(kMaxSafetensorsHeader) +
                              " are accepted");
  }
  return static_cast<std::size_t>(length);
}

}  // namespace

Result<std::vector<StoredTensor>> parse_safetensors(std::span<const std::byte> file,
                                                    const std::string& where) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::size_t length, header_length(file, where));
  const std::size_t data_begin = kLengthBytes + length;
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + kLengthBytes, length);
  if (text.front() != '{') return corrupt(where + ": the header does not begin with \"{\"");
  // Entries nest three deep: header, entry, list.
  LIQUIDGEMM_ASSIGN_OR_RETURN(json::Value header,
                              json::parse(text, where + ": header", {kMaxSafetensorsHeader, 8}));
  const json::Object* entries = header.if_object();
  if (entries == nullptr) return corrupt(where + ": the header is not a JSON object");

  std::vector<StoredTensor> tensors;
  for (const auto& [key, value] : *entries) {
    const std::string_view name(key.data(), key.size());
    if (name == "__metadata__") {
      LIQUIDGEMM_RETURN_IF_ERROR(check_metadata(value, where));
      continue;
    }
    if (name.empty()) return corrupt(where + ": a tensor has an empty name");
    LIQUIDGEMM_ASSIGN_OR_RETURN(
        StoredTensor tensor,
        EntryParser(name, value, where).parse(data_begin, file.size() - data_begin));
    tensors.push_back(std::move(tensor));
  }
  // Empty tensors come before the one that begins at the same place.
  std::sort(tensors.begin(), tensors.end(), [](const StoredTensor& a, const StoredTensor& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.info.bytes < b.info.bytes;
  });
  LIQUIDGEMM_RETURN_IF_ERROR(check_tiling(tensors, data_begin, file.size(), where));
  return tensors;
}

}  // namespace liquidgemm

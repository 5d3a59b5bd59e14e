#include "model/checkpoint/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "base/status_macros.h"
#include "model/checkpoint/printable.h"

namespace liquidgemm {
namespace {

constexpr std::uint32_t kVersion = 3;
constexpr std::uint64_t kMostKeys = 1 << 16;
constexpr std::uint64_t kMostTensors = 1 << 17;
constexpr std::uint64_t kLongestName = 65535;
constexpr std::uint32_t kMostDimensions = 4;
constexpr std::uint64_t kDefaultAlignment = 32;
constexpr std::uint64_t kLargestAlignment = 1 << 16;

constexpr std::uint32_t kTypes = 13;
constexpr std::array<std::string_view, kTypes> kTypeNames = {
    "uint8", "int8",   "uint16", "int16",  "uint32", "int32",  "float32",
    "bool",  "string", "array",  "uint64", "int64",  "float64"};
// Bytes of a scalar; 0 for the types of variable length.
constexpr std::array<std::uint64_t, kTypes> kTypeBytes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

// Tensor types of ggml. Those without a dtype are known by name only, for the message.
struct TensorType {
  std::uint32_t number;
  std::string_view name;
  std::optional<DType> dtype;
};
constexpr TensorType kTensorTypes[] = {
    {0, "F32", DType::kF32},
    {1, "F16", DType::kF16},
    {2, "Q4_0", DType::kQ4_0},
    {3, "Q4_1", DType::kQ4_1},
    {6, "Q5_0", {}},
    {7, "Q5_1", {}},
    {8, "Q8_0", DType::kQ8_0},
    {9, "Q8_1", {}},
    {10, "Q2_K", {}},
    {11, "Q3_K", {}},
    {12, "Q4_K", {}},
    {13, "Q5_K", {}},
    {14, "Q6_K", {}},
    {15, "Q8_K", {}},
    {16, "IQ2_XXS", {}},
    {17, "IQ2_XS", {}},
    {18, "IQ3_XXS", {}},
    {19, "IQ1_S", {}},
    {20, "IQ4_NL", {}},
    {21, "IQ3_S", {}},
    {22, "IQ2_S", {}},
    {23, "IQ4_XS", {}},
    {24, "I8", DType::kI8},
    {25, "I16", DType::kI16},
    {26, "I32", DType::kI32},
    {27, "I64", DType::kI64},
    {28, "F64", DType::kF64},
    {29, "IQ1_M", {}},
    {30, "BF16", DType::kBF16},
    {34, "TQ1_0", {}},
    {35, "TQ2_0", {}},
    {39, "MXFP4", {}},
    {40, "NVFP4", {}},
};

// Reads forward through the file; every step checks what is left first.
class Cursor {
 public:
  Cursor(std::span<const std::byte> file, const std::string& where) : file_(file), where_(where) {}

  std::size_t position() const { return position_; }
  std::uint64_t left() const { return file_.size() - position_; }

  template <typename T>
  Result<T> read(std::string_view what) {
    if (left() < sizeof(T)) return truncated(what);
    T value;
    std::memcpy(&value, file_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return value;
  }

  Result<std::span<const std::byte>> take(std::uint64_t bytes, std::string_view what) {
    if (left() < bytes) return truncated(what);
    const auto view = file_.subspan(position_, static_cast<std::size_t>(bytes));
    position_ += static_cast<std::size_t>(bytes);
    return view;
  }

  Result<std::string_view> string(std::string_view what) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(std::uint64_t length, read<std::uint64_t>(what));
    LIQUIDGEMM_ASSIGN_OR_RETURN(auto view, take(length, what));
    return std::string_view(reinterpret_cast<const char*>(view.data()), view.size());
  }

 private:
  Status truncated(std::string_view what) const {
    return corrupt(where_ + ": the file ends inside " + std::string(what) + " at byte " +
                   std::to_string(position_) + " of " + std::to_string(file_.size()) +
                   "; is the download complete?");
  }

  std::span<const std::byte> file_;
  const std::string& where_;
  std::size_t position_ = 0;
};

Result<GgufType> read_type(Cursor& cursor, const std::string& field) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::uint32_t number, cursor.read<std::uint32_t>("a value's type"));
  if (number >= kTypes) {
    return corrupt(field + ": value type " + std::to_string(number) + " does not exist");
  }
  return static_cast<GgufType>(number);
}

Result<GgufArray> read_array(Cursor& cursor, const std::string& field) {
  GgufArray array;
  LIQUIDGEMM_ASSIGN_OR_RETURN(array.type, read_type(cursor, field));
  LIQUIDGEMM_ASSIGN_OR_RETURN(array.count, cursor.read<std::uint64_t>("an array's length"));
  if (array.type == GgufType::kArray) {
    return unsupported(field + ": arrays of arrays are not supported");
  }
  const bool strings = array.type == GgufType::kString;
  const std::uint64_t least = strings ? 8 : kTypeBytes[static_cast<std::uint32_t>(array.type)];
  if (array.count > cursor.left() / least) {
    return corrupt(field + ": an array of " + std::to_string(array.count) + " " +
                   std::string(gguf_type_name(array.type)) + " does not fit into the file");
  }
  if (!strings) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(array.bytes, cursor.take(array.count * least, "an array"));
    return array;
  }
  Cursor start = cursor;
  for (std::uint64_t i = 0; i < array.count; ++i) {
    LIQUIDGEMM_ASSIGN_OR_RETURN([[maybe_unused]] auto text, cursor.string("an array of strings"));
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(array.bytes,
                              start.take(cursor.position() - start.position(), "an array"));
  return array;
}

template <typename T, typename Wide>
Result<GgufValue> read_scalar(Cursor& cursor) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(T value, cursor.read<T>("a value"));
  return GgufValue(static_cast<Wide>(value));
}

Result<GgufValue> read_value(Cursor& cursor, const std::string& field) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(GgufType type, read_type(cursor, field));
  switch (type) {
    case GgufType::kUint8: return read_scalar<std::uint8_t, std::uint64_t>(cursor);
    case GgufType::kInt8: return read_scalar<std::int8_t, std::int64_t>(cursor);
    case GgufType::kUint16: return read_scalar<std::uint16_t, std::uint64_t>(cursor);
    case GgufType::kInt16: return read_scalar<std::int16_t, std::int64_t>(cursor);
    case GgufType::kUint32: return read_scalar<std::uint32_t, std::uint64_t>(cursor);
    case GgufType::kInt32: return read_scalar<std::int32_t, std::int64_t>(cursor);
    case GgufType::kUint64: return read_scalar<std::uint64_t, std::uint64_t>(cursor);
    case GgufType::kInt64: return read_scalar<std::int64_t, std::int64_t>(cursor);
    case GgufType::kFloat32: return read_scalar<float, double>(cursor);
    case GgufType::kFloat64: return read_scalar<double, double>(cursor);
    case GgufType::kBool: {
      LIQUIDGEMM_ASSIGN_OR_RETURN(std::uint8_t value, cursor.read<std::uint8_t>("a value"));
      if (value > 1) return corrupt(field + ": a bool is " + std::to_string(value));
      return GgufValue(value == 1);
    }
    case GgufType::kString: {
      LIQUIDGEMM_ASSIGN_OR_RETURN(std::string_view text, cursor.string("a string"));
      return GgufValue(text);
    }
    case GgufType::kArray: {
      LIQUIDGEMM_ASSIGN_OR_RETURN(GgufArray array, read_array(cursor, field));
      return GgufValue(array);
    }
  }
  return internal_error("read_value: unknown type");
}

Status read_metadata(Cursor& cursor, std::uint64_t count, GgufMetadata& metadata) {
  for (std::uint64_t i = 0; i < count; ++i) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(std::string_view key, cursor.string("a key"));
    if (key.empty() || key.size() > kLongestName) {
      return corrupt(metadata.where() + ": key " + std::to_string(i) + " has " +
                     std::to_string(key.size()) + " bytes, expected 1 to 65535");
    }
    LIQUIDGEMM_ASSIGN_OR_RETURN(GgufValue value, read_value(cursor, metadata.field(key)));
    if (!metadata.add(key, value)) return corrupt(metadata.field(key) + ": appears twice");
  }
  return ok_status();
}

Result<DType> read_tensor_type(Cursor& cursor, std::string_view name, const std::string& where) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::uint32_t number, cursor.read<std::uint32_t>("a tensor's type"));
  std::string text = "type number " + std::to_string(number);
  for (const TensorType& type : kTensorTypes) {
    if (type.number != number) continue;
    if (type.dtype) return *type.dtype;
    text = std::string("type ") + std::string(type.name);
  }
  return unsupported(where + ": tensor " + printable(name) + ": " + text +
                     " is not supported; supported are F32, F16, BF16, Q8_0, Q4_0 and Q4_1. "
                     "Download another file of this model, best Q8_0, BF16 or F16");
}

// `begin` of the result is still relative to the data section.
Result<StoredTensor> read_tensor(Cursor& cursor, std::uint64_t alignment,
                                 const std::string& where) {
  StoredTensor tensor;
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::string_view name, cursor.string("a tensor's name"));
  const std::string what = where + ": tensor " + printable(name);
  if (name.empty() || name.size() > kLongestName) return corrupt(what + ": bad name length");
  tensor.info.name = std::string(name);
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::uint32_t dimensions, cursor.read<std::uint32_t>("a tensor"));
  if (dimensions < 1 || dimensions > kMostDimensions) {
    return corrupt(what + ": " + std::to_string(dimensions) + " dimensions, expected 1 to 4");
  }
  for (std::uint32_t i = 0; i < dimensions; ++i) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(std::int64_t size, cursor.read<std::int64_t>("a tensor's shape"));
    if (size < 1) return corrupt(what + ": a dimension is " + std::to_string(size));
    tensor.info.shape.insert(tensor.info.shape.begin(), size);
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(tensor.info.dtype, read_tensor_type(cursor, name, where));
  const auto bytes = tensor_bytes(tensor.info.dtype, tensor.info.shape);
  if (!bytes) {
    return corrupt(what + ": shape " + shape_string(tensor.info.shape) + " of type " +
                   std::string(dtype_name(tensor.info.dtype)) +
                   " overflows or is not in whole blocks of 32");
  }
  tensor.info.bytes = *bytes;
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::uint64_t offset, cursor.read<std::uint64_t>("a tensor's place"));
  if (offset % alignment != 0) {
    return corrupt(what + ": offset " + std::to_string(offset) + " is not a multiple of " +
                   std::to_string(alignment));
  }
  tensor.begin = offset;
  return tensor;
}

std::uint64_t padding(std::uint64_t position, std::uint64_t alignment) {
  return (alignment - position % alignment) % alignment;
}

// Places the tensors in the file and checks that they tile it, with nothing but alignment between.
Status place_tensors(std::vector<StoredTensor>& tensors, std::uint64_t data_begin,
                     std::uint64_t file_size, std::uint64_t alignment, const std::string& where) {
  std::sort(tensors.begin(), tensors.end(),
            [](const StoredTensor& a, const StoredTensor& b) { return a.begin < b.begin; });
  const std::uint64_t data_size = file_size - data_begin;
  std::uint64_t end = 0;  // of the tensor before
  for (StoredTensor& tensor : tensors) {
    const std::string what = where + ": tensor " + printable(tensor.info.name);
    const auto bytes = static_cast<std::uint64_t>(tensor.info.bytes);
    if (tensor.begin > data_size || bytes > data_size - tensor.begin) {
      return corrupt(what + ": its " + std::to_string(bytes) + " bytes at offset " +
                     std::to_string(tensor.begin) + " leave the file, which holds " +
                     std::to_string(data_size) + " bytes of data; is the download complete?");
    }
    if (tensor.begin < end) return corrupt(what + ": overlaps the tensor before it");
    if (tensor.begin - end != padding(end, alignment)) {
      return corrupt(what + ": " + std::to_string(tensor.begin - end) +
                     " bytes before it belong to no tensor");
    }
    end = tensor.begin + bytes;
    tensor.begin += data_begin;
  }
  if (data_size - end > padding(end, alignment)) {
    return corrupt(where + ": " + std::to_string(data_size - end) +
                   " bytes at the end belong to no tensor");
  }
  return ok_status();
}

struct Counts {
  std::uint64_t tensors = 0;
  std::uint64_t keys = 0;
};

Result<Counts> read_header(Cursor& cursor, const std::string& where) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto magic, cursor.take(4, "the magic"));
  if (std::memcmp(magic.data(), "GGUF", 4) != 0) {
    return corrupt(where + ": not a GGUF file (it does not begin with \"GGUF\")");
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::uint32_t version, cursor.read<std::uint32_t>("the version"));
  if (version >= 1u << 24) {
    return unsupported(where +
                       ": a big-endian GGUF file; convert the model again without "
                       "--bigendian");
  }
  if (version != kVersion) {
    return unsupported(where + ": GGUF version " + std::to_string(version) +
                       ", supported is version 3; convert the model again with a current "
                       "llama.cpp");
  }
  Counts counts;
  LIQUIDGEMM_ASSIGN_OR_RETURN(counts.tensors, cursor.read<std::uint64_t>("the tensor count"));
  LIQUIDGEMM_ASSIGN_OR_RETURN(counts.keys, cursor.read<std::uint64_t>("the key count"));
  if (counts.tensors > kMostTensors || counts.keys > kMostKeys) {
    return corrupt(where + ": the header claims " + std::to_string(counts.tensors) +
                   " tensors and " + std::to_string(counts.keys) + " keys, at most " +
                   std::to_string(kMostTensors) + " and " + std::to_string(kMostKeys) +
                   " are accepted");
  }
  return counts;
}

}  // namespace

std::string_view gguf_type_name(GgufType type) {
  return kTypeNames[static_cast<std::uint32_t>(type)];
}

Result<GgufFile> parse_gguf(std::span<const std::byte> file, const std::string& where) {
  static_assert(std::endian::native == std::endian::little, "values are read as stored");
  Cursor cursor(file, where);
  LIQUIDGEMM_ASSIGN_OR_RETURN(Counts counts, read_header(cursor, where));
  GgufFile gguf{GgufMetadata(where), {}};
  LIQUIDGEMM_RETURN_IF_ERROR(read_metadata(cursor, counts.keys, gguf.metadata));
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto given,
                              gguf.metadata.optional_int("general.alignment", 0, 0xFFFFFFFF));
  const auto alignment = given ? static_cast<std::uint64_t>(*given) : kDefaultAlignment;
  if (!std::has_single_bit(alignment) || alignment < 8 || alignment > kLargestAlignment) {
    return corrupt(gguf.metadata.field("general.alignment") + ": expected a power of two from 8 " +
                   "to 65536, found " + std::to_string(alignment));
  }
  for (std::uint64_t i = 0; i < counts.tensors; ++i) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(StoredTensor tensor, read_tensor(cursor, alignment, where));
    gguf.tensors.push_back(std::move(tensor));
  }
  const std::uint64_t data_begin = cursor.position() + padding(cursor.position(), alignment);
  if (data_begin > file.size()) {
    if (!gguf.tensors.empty()) return corrupt(where + ": the file ends before its data");
    return gguf;  // a vocabulary alone: valid, though of no use as a model
  }
  LIQUIDGEMM_RETURN_IF_ERROR(
      place_tensors(gguf.tensors, data_begin, file.size(), alignment, where));
  return gguf;
}

}  // namespace liquidgemm

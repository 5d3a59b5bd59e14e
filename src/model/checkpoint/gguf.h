// The GGUF container, version 3, little endian: a magic, counts, key-value metadata, tensor
// descriptions, padding, data. Everything is parsed out of a mapped file; strings and arrays stay
// views into it, so that a header costs little more memory than its entries.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "liquidgemm/status.h"
#include "model/checkpoint/stored_tensors.h"

namespace liquidgemm {

// The type numbers of the format.
enum class GgufType : std::uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};
std::string_view gguf_type_name(GgufType type);

// An array of scalars or strings; arrays of arrays are refused. `bytes` are its elements as stored,
// checked to be whole.
struct GgufArray {
  GgufType type = GgufType::kUint8;
  std::uint64_t count = 0;
  std::span<const std::byte> bytes;
};

// Signed and unsigned integers of all widths are one alternative each, floats are double.
using GgufValue =
    std::variant<std::uint64_t, std::int64_t, double, bool, std::string_view, GgufArray>;

class GgufMetadata {
 public:
  explicit GgufMetadata(std::string where) : where_(std::move(where)) {}

  const std::string& where() const { return where_; }
  bool has(std::string_view key) const { return values_.contains(key); }
  std::string field(std::string_view key) const;  // "file: field \"llama.block_count\""

  // Missing gives nothing; of another type or outside [low, high] is an error naming the key.
  // Integers of any width read as integers.
  Result<std::optional<std::int64_t>> optional_int(std::string_view key, std::int64_t low,
                                                   std::int64_t high) const;
  Result<std::optional<double>> optional_number(std::string_view key, double low,
                                                double high) const;
  Result<std::optional<bool>> optional_bool(std::string_view key) const;
  Result<std::optional<std::string>> optional_string(std::string_view key) const;
  Result<std::int64_t> required_int(std::string_view key, std::int64_t low,
                                    std::int64_t high) const;
  Result<std::string> required_string(std::string_view key) const;
  // Views into the file. At most `most` elements.
  Result<std::vector<std::string_view>> required_strings(std::string_view key,
                                                         std::size_t most) const;
  // Integers of any type; empty when missing.
  Result<std::vector<std::int64_t>> optional_ints(std::string_view key, std::size_t most) const;

  const GgufValue* find(std::string_view key) const;
  // False when the key is taken.
  bool add(std::string_view key, GgufValue value);

 private:
  template <typename T>
  Result<const T*> optional_as(std::string_view key, std::string_view expected) const;
  Status wrong_type(std::string_view key, std::string_view expected) const;

  std::string where_;
  std::map<std::string_view, GgufValue, std::less<>> values_;
};

struct GgufFile {
  GgufMetadata metadata;
  // In the order of their data, with GGUF's names. Shapes are reversed to row-major [N, K]: the
  // file stores the fastest dimension first.
  std::vector<StoredTensor> tensors;
};

// `file` must outlive the result.
Result<GgufFile> parse_gguf(std::span<const std::byte> file, const std::string& where);

}  // namespace liquidgemm

// Builds checkpoints for tests: safetensors and GGUF files byte by byte, so that a test can also
// build what no correct writer would.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/tensor.h"
#include "model/checkpoint/config.h"

namespace liquidgemm::testing {

// A folder that disappears with the object.
class TempFolder {
 public:
  TempFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "liquid-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) std::abort();
    path_ = pattern;
  }
  ~TempFolder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }

  std::string write(const std::string& name, std::string_view bytes) const {
    std::ofstream(file(name), std::ios::binary) << bytes;
    return file(name);
  }

 private:
  std::string path_;
};

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// Little-endian bytes of a value.
template <typename T>
std::string raw(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

template <typename T>
std::string raw_vector(const std::vector<T>& values) {
  std::string bytes;
  for (const T& value : values) bytes += raw(value);
  return bytes;
}

struct TestTensor {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  std::string data;
};

inline TestTensor float_tensor(const std::string& name, const Shape& shape,
                               const std::vector<float>& values) {
  return {name, DType::kF32, shape, raw_vector(values)};
}

// Normal values with the given seed.
inline TestTensor random_tensor(const std::string& name, const Shape& shape, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 0.05f);
  std::vector<float> values(static_cast<std::size_t>(element_count(shape).value()));
  for (float& value : values) value = normal(random);
  return float_tensor(name, shape, values);
}

// A header with its length before it and data after it.
inline std::string safetensors_file(const std::string& header, const std::string& data) {
  return raw<std::uint64_t>(header.size()) + header + data;
}

inline std::string safetensors_header(const std::vector<TestTensor>& tensors) {
  std::string header = "{\"__metadata__\":{\"format\":\"pt\"}";
  std::size_t begin = 0;
  for (const TestTensor& tensor : tensors) {
    header += ",\"" + tensor.name + "\":{\"dtype\":\"" + std::string(dtype_name(tensor.dtype)) +
              "\",\"shape\":" + shape_string(tensor.shape) + ",\"data_offsets\":[" +
              std::to_string(begin) + "," + std::to_string(begin + tensor.data.size()) + "]}";
    begin += tensor.data.size();
  }
  return header + "}";
}

inline std::string safetensors_file(const std::vector<TestTensor>& tensors) {
  std::string data;
  for (const TestTensor& tensor : tensors) data += tensor.data;
  return safetensors_file(safetensors_header(tensors), data);
}

// GGUF, version 3. Keys and tensors are written as they are added.
class GgufBuilder {
 public:
  static std::string text(std::string_view value) {
    return raw<std::uint64_t>(value.size()) + std::string(value);
  }

  GgufBuilder& key(std::string_view name, std::uint32_t type, const std::string& value) {
    keys_ += text(name) + raw(type) + value;
    ++key_count_;
    return *this;
  }
  GgufBuilder& u32(std::string_view name, std::uint32_t value) { return key(name, 4, raw(value)); }
  GgufBuilder& f32(std::string_view name, float value) { return key(name, 6, raw(value)); }
  GgufBuilder& boolean(std::string_view name, bool value) {
    return key(name, 7, raw<std::uint8_t>(value ? 1 : 0));
  }
  GgufBuilder& string(std::string_view name, std::string_view value) {
    return key(name, 8, text(value));
  }
  GgufBuilder& strings(std::string_view name, const std::vector<std::string>& values) {
    std::string body = raw<std::uint32_t>(8) + raw<std::uint64_t>(values.size());
    for (const std::string& value : values) body += text(value);
    return key(name, 9, body);
  }
  GgufBuilder& ints(std::string_view name, const std::vector<std::int32_t>& values) {
    return key(name, 9,
               raw<std::uint32_t>(5) + raw<std::uint64_t>(values.size()) + raw_vector(values));
  }

  // `shape` is row-major; the file gets it reversed.
  GgufBuilder& tensor(const TestTensor& tensor) {
    return tensor_at(tensor.name, ggml_type(tensor.dtype),
                     {tensor.shape.rbegin(), tensor.shape.rend()}, padded(data_.size()),
                     tensor.data);
  }
  GgufBuilder& tensor_at(const std::string& name, std::uint32_t type,
                         const std::vector<std::int64_t>& dimensions, std::uint64_t offset,
                         const std::string& data) {
    infos_ += text(name) + raw(static_cast<std::uint32_t>(dimensions.size())) +
              raw_vector(dimensions) + raw(type) + raw(offset);
    data_.resize(padded(data_.size()), '\0');
    data_ += data;
    ++tensor_count_;
    return *this;
  }

  GgufBuilder& version(std::uint32_t value) {
    version_ = value;
    return *this;
  }
  GgufBuilder& alignment(std::uint32_t value) {
    alignment_ = value;
    return u32("general.alignment", value);
  }
  GgufBuilder& counts(std::uint64_t tensors, std::uint64_t keys) {
    forced_ = {tensors, keys};
    return *this;
  }

  std::string build() const {
    const bool forced = forced_.first != 0 || forced_.second != 0;
    std::string out = "GGUF" + raw(version_) + raw(forced ? forced_.first : tensor_count_) +
                      raw(forced ? forced_.second : key_count_) + keys_ + infos_;
    out.resize(padded(out.size()), '\0');
    return out + data_;
  }

  static std::uint32_t ggml_type(DType dtype) {
    switch (dtype) {
      case DType::kF32: return 0;
      case DType::kF16: return 1;
      case DType::kQ4_0: return 2;
      case DType::kQ4_1: return 3;
      case DType::kQ8_0: return 8;
      case DType::kI8: return 24;
      case DType::kI32: return 26;
      case DType::kBF16: return 30;
      default: return 99;
    }
  }

 private:
  std::size_t padded(std::size_t size) const {
    return (size + alignment_ - 1) / alignment_ * alignment_;
  }

  std::uint32_t version_ = 3;
  std::size_t alignment_ = 32;
  std::uint64_t key_count_ = 0;
  std::uint64_t tensor_count_ = 0;
  std::pair<std::uint64_t, std::uint64_t> forced_;
  std::string keys_, infos_, data_;
};

// A model small enough to write in a test, with odd proportions: 3 query heads for each of 2
// key/value heads.
inline ModelConfig tiny_config(ModelFamily family = ModelFamily::kLlama) {
  ModelConfig config;
  config.family = family;
  config.architecture = family == ModelFamily::kLlama   ? "LlamaForCausalLM"
                        : family == ModelFamily::kQwen2 ? "Qwen2ForCausalLM"
                                                        : "Qwen3ForCausalLM";
  config.hidden_size = 96;
  config.intermediate_size = 160;
  config.layers = 2;
  config.heads = 6;
  config.kv_heads = 2;
  config.head_dim = 16;
  config.vocab_size = 40;
  config.max_position = 512;
  config.rms_norm_eps = 1e-5;
  config.rope_theta = 10000.0;
  config.qkv_bias = family == ModelFamily::kQwen2;
  config.qk_norm = family == ModelFamily::kQwen3;
  config.bos_token = 0;
  config.eos_tokens = {1};
  return config;
}

// A byte-level BPE tokenizer with no merges and `size` tokens, two of them special.
inline std::string tiny_tokenizer_json(int size = 40) {
  std::string vocabulary = "\"<s>\":0,\"</s>\":1";
  for (int id = 2; id < size; ++id) {
    vocabulary +=
        ",\"" + std::string(1, static_cast<char>('A' + id - 2)) + "\":" + std::to_string(id);
    if ('A' + id - 2 == '[') vocabulary.replace(vocabulary.rfind('['), 1, "!");
    if ('A' + id - 2 == '\\') vocabulary.replace(vocabulary.rfind('\\'), 1, "?");
  }
  const auto added = [](int id, const std::string& text) {
    return "{\"id\":" + std::to_string(id) + ",\"content\":\"" + text +
           "\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,"
           "\"special\":true}";
  };
  return "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[" +
         added(0, "<s>") + "," + added(1, "</s>") +
         "],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":"
         "false,\"trim_offsets\":true,\"use_regex\":true},\"post_processor\":null,\"decoder\":{"
         "\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":"
         "true},\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
         "\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,\"fuse_unk\":false,"
         "\"byte_fallback\":false,\"ignore_merges\":false,\"vocab\":{" +
         vocabulary + "},\"merges\":[]}}";
}

}  // namespace liquidgemm::testing

#include "model/quantize_fingerprint.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string_view>
#include <vector>

#include "base/status_macros.h"

namespace liquidgemm {
namespace {

namespace fs = std::filesystem;

// Raise it when the same source and options give other bytes than before.
constexpr int kQuantizerVersion = 1;
// Of codes and scales that are stored.
constexpr std::size_t kSampleBytes = 256;

// FNV-1a, 64 bits: this guards against mistakes, not against an adversary.
class Hash {
 public:
  void add(std::string_view bytes) {
    for (const char c : bytes) {
      value_ = (value_ ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
    }
    value_ = (value_ ^ 0xFFu) * 0x100000001B3u;  // "ab", "c" is not "a", "bc"
  }
  void add(std::int64_t number) { add(std::to_string(number)); }
  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0xCBF29CE484222325u;
};

Status add_files(const std::string& path, Hash& hash) {
  std::error_code error;
  std::vector<fs::path> files;
  if (fs::is_directory(path, error)) {
    for (fs::directory_iterator entry(path, error); !error && entry != fs::directory_iterator();
         entry.increment(error)) {
      if (entry->path().extension() == ".safetensors") files.push_back(entry->path());
    }
  } else {
    files.emplace_back(path);
  }
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) {
    if (error) break;
    hash.add(file.filename().string());
    hash.add(static_cast<std::int64_t>(fs::file_size(file, error)));
    if (error) break;
    hash.add(
        static_cast<std::int64_t>(fs::last_write_time(file, error).time_since_epoch().count()));
  }
  if (error) return io_error(path + ": " + error.message());
  return ok_status();
}

bool is_quantised(std::string_view name) {
  return name.ends_with(".weight_packed") || name.ends_with(".weight_int8") ||
         name.ends_with(".weight_scale");
}

// The config, every tensor and the files.
Status add_source(const ModelSource& source, Hash& hash) {
  hash.add(config_to_json(source.config));
  std::vector<float> row;
  for (const TensorInfo& info : source.tensors->tensors()) {
    hash.add(info.name);
    hash.add(dtype_name(info.dtype));
    hash.add(shape_string(info.shape));
    if (is_quantised(info.name)) {
      LIQUIDGEMM_ASSIGN_OR_RETURN(const auto bytes, source.tensors->bytes(info.name));
      const auto first = bytes.first(std::min(bytes.size(), kSampleBytes));
      hash.add(std::string_view(reinterpret_cast<const char*>(first.data()), first.size()));
    }
    const bool matrix = info.shape.size() == 2 && info.shape[0] > 0 && info.shape[1] > 0;
    if (!matrix || !info.name.ends_with(".weight")) continue;
    row.resize(static_cast<std::size_t>(info.shape[1]));
    LIQUIDGEMM_RETURN_IF_ERROR(source.tensors->read_rows(info.name, 0, 1, row.data()));
    hash.add(
        std::string_view(reinterpret_cast<const char*>(row.data()), row.size() * sizeof(float)));
  }
  return add_files(source.path, hash);
}

}  // namespace

Result<std::string> quantize_fingerprint(const ModelSource& source,
                                         const QuantizeOptions& options) {
  Hash hash;
  hash.add(kQuantizerVersion);
  hash.add(static_cast<std::int64_t>(options.scheme));
  hash.add(static_cast<std::int64_t>(options.head));
  hash.add(options.group_size);
  hash.add(step_rule_name(options.rule));
  hash.add(options.shard_bytes);
  for (const KvScales& scales : options.kv_scales) {
    for (const std::vector<float>* values : {&scales.k, &scales.v}) {
      hash.add(std::string_view(reinterpret_cast<const char*>(values->data()),
                                values->size() * sizeof(float)));
    }
  }
  LIQUIDGEMM_RETURN_IF_ERROR(add_source(source, hash));
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash.value()));
  return std::string(text);
}

Result<std::uint64_t> packed_weights_fingerprint(const ModelSource& source, Precision precision,
                                                 int group_size, StepRule rule) {
  Hash hash;
  hash.add(kQuantizerVersion);
  hash.add(precision_name(precision));
  const bool four_bits = precision == Precision::kW4A8 || precision == Precision::kW4A16;
  if (four_bits && !source.config.quantization) {
    hash.add(group_size);
    hash.add(step_rule_name(rule));
  }
  LIQUIDGEMM_RETURN_IF_ERROR(add_source(source, hash));
  return hash.value();
}

}  // namespace liquidgemm

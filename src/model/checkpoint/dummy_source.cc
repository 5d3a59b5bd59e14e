#include "model/checkpoint/dummy_source.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/half.h"
#include "base/splitmix64.h"
#include "base/status_macros.h"
#include "quant/liquid_quant.h"

namespace liquidgemm {
namespace {

// Root mean square of a random weight before its channel's scale: of q * s + a - 128, and of a
// uniform INT8 value.
constexpr double kLiquidRms = 61.0;
constexpr double kInt8Rms = 73.0;

// What a tensor holds.
enum class Content { kBytes, kStep, kOffset, kInt8, kFp16, kScale, kOnes, kZeros };

class DummyTensors final : public TensorSource {
 public:
  DummyTensors(std::string where, std::uint64_t seed) : where_(std::move(where)), seed_(seed) {}

  void add_matrix(const std::string& module, std::int64_t n, std::int64_t k,
                  const LayerQuantization& stored) {
    if (stored.scheme == WeightScheme::kFp16) {
      add(module, ".weight", DType::kF16, {n, k}, Content::kFp16,
          static_cast<float>(1.0 / std::sqrt(static_cast<double>(k))));
      return;
    }
    const bool int8 = stored.scheme == WeightScheme::kInt8;
    if (int8) {
      add(module, ".weight_int8", DType::kI8, {n, k}, Content::kInt8);
    } else {
      const std::int64_t groups = (k + stored.group_size - 1) / stored.group_size;
      add(module, ".weight_packed", DType::kU8, {n, k / 2}, Content::kBytes);
      add(module, ".group_scale", DType::kU8, {n, groups}, Content::kStep);
      add(module, ".group_offset", DType::kU8, {n, groups}, Content::kOffset);
    }
    const double rms = int8 ? kInt8Rms : kLiquidRms;
    add(module, ".weight_scale", DType::kF32, {n}, Content::kScale,
        static_cast<float>(1.0 / (rms * std::sqrt(static_cast<double>(k)))));
  }
  void add_norm(const std::string& tensor, std::int64_t width) {
    add(tensor, "", DType::kF32, {width}, Content::kOnes);
  }
  // Of a static INT8 cache: what random weights make of a row has a root mean square of about 1.
  void add_kv_scale(const std::string& tensor, std::int64_t width) {
    add(tensor, "", DType::kF32, {width}, Content::kScale, 6.0f / 127.0f);
  }
  void add_bias(const std::string& module, std::int64_t width) {
    add(module, ".bias", DType::kF32, {width}, Content::kZeros);
  }

  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  const TensorInfo* find(std::string_view name) const override {
    const auto found = index_.find(name);
    return found == index_.end() ? nullptr : &infos_[found->second];
  }
  const std::string& where() const override { return where_; }

  Result<std::span<const std::byte>> bytes(std::string_view name) const override {
    LIQUIDGEMM_ASSIGN_OR_RETURN(const TensorInfo* info, require(name));
    const auto size = static_cast<std::size_t>(info->bytes);
    Buffer& made = made_[info->name];
    if (made.size == 0) {
      made = take_buffer(size);
      make(parts_[index_.find(name)->second], {made.bytes.get(), size});
    }
    return std::span<const std::byte>(made.bytes.get(), size);
  }
  Status read_rows(std::string_view name, std::int64_t first, std::int64_t count,
                   float* out) const override {
    LIQUIDGEMM_ASSIGN_OR_RETURN(const TensorInfo* info, require(name));
    const Part& part = parts_[index_.find(name)->second];
    const std::int64_t values = count * info->shape.back();
    switch (part.content) {
      case Content::kOnes: std::fill_n(out, values, 1.0f); return ok_status();
      case Content::kZeros: std::fill_n(out, values, 0.0f); return ok_status();
      case Content::kScale: std::fill_n(out, values, part.scale); return ok_status();
      case Content::kFp16: {
        const auto begin = static_cast<std::uint64_t>(first * info->shape.back());
        for (std::uint64_t i = begin; i < begin + static_cast<std::uint64_t>(values); ++i) {
          const std::uint64_t word = fp16_word(part, part.key + i / 4);
          *out++ = f16_to_float(static_cast<std::uint16_t>(word >> i % 4 * 16));
        }
        return ok_status();
      }
      default: return unsupported(where_ + ": tensor " + info->name + " is not stored as float");
    }
  }
  void release(std::string_view name) const override {
    const auto found = made_.find(name);
    if (found == made_.end()) return;
    if (spare_bytes_ + found->second.size <= kMostSpareBytes) {
      spare_bytes_ += found->second.size;
      spare_.push_back(std::move(found->second));
    }
    made_.erase(found);
  }

  std::int64_t stored_bytes() const {
    std::int64_t bytes = 0;
    for (const TensorInfo& info : infos_) bytes += info.bytes;
    return bytes;
  }

 private:
  struct Part {
    Content content = Content::kBytes;
    std::uint64_t key = 0;  // of the module: offsets ask for the steps of the same groups
    float scale = 0.0f;     // kScale; kFp16: about the root mean square
  };

  struct Buffer {
    std::unique_ptr<std::byte[]> bytes;
    std::size_t size = 0;
  };

  // New memory costs about as much as filling it: what was released serves again.
  static constexpr std::size_t kMostSpareBytes = std::size_t{256} << 20;

  Buffer take_buffer(std::size_t size) const {
    auto best = spare_.end();
    for (auto at = spare_.begin(); at != spare_.end(); ++at) {
      if (at->size >= size && (best == spare_.end() || at->size < best->size)) best = at;
    }
    if (best == spare_.end()) return {std::make_unique_for_overwrite<std::byte[]>(size), size};
    Buffer buffer = std::move(*best);
    spare_.erase(best);
    spare_bytes_ -= buffer.size;
    return buffer;
  }

  void add(const std::string& module, const char* suffix, DType dtype, Shape shape, Content content,
           float scale = 0.0f) {
    TensorInfo info{.name = module + suffix, .dtype = dtype, .shape = std::move(shape)};
    info.bytes = tensor_bytes(dtype, info.shape).value_or(0);
    index_.emplace(info.name, infos_.size());
    parts_.push_back({content, splitmix64_key(seed_, module), scale});
    infos_.push_back(std::move(info));
  }

  // The group's step from the low bits of its number, its offset from the high ones.
  static std::uint64_t group_at(std::uint64_t key, std::uint64_t group) {
    return splitmix64(~key + group);
  }
  static std::uint64_t step_of(std::uint64_t group) { return 1 + group % kMaxStep; }
  static std::uint64_t offset_of(std::uint64_t group) {
    // The largest code, 15 * step + offset, may be 255 at most. A product, not a division: there
    // are as many groups as a large model has weights / 64.
    return (group >> 32) * (256 - kMaxCode * step_of(group)) >> 32;
  }

  // The checkpoint has no -128.
  static std::uint64_t without_least(std::uint64_t word) {
    constexpr std::uint64_t kOnes = 0x0101010101010101u;
    constexpr std::uint64_t kLeast = 0x80 * kOnes;
    const std::uint64_t zeros = word ^ kLeast;  // a byte of zeros where -128 is
    if (((zeros - kOnes) & ~zeros & kLeast) == 0) return word;
    for (int byte = 0; byte < 64; byte += 8) {
      if ((word >> byte & 0xFF) == 0x80) word += std::uint64_t{1} << byte;
    }
    return word;
  }

  // Four values with random signs and mantissas in two neighbouring octaves, the lower one of an
  // even exponent.
  static std::uint64_t fp16_word(const Part& part, std::uint64_t counter) {
    constexpr std::uint64_t kOnes = 0x0001000100010001u;
    constexpr double kRms = 2.4;  // of such a value, in units of the lower octave
    constexpr int kBias = 15;
    const auto exponent =
        2 * static_cast<int>(std::lround((std::log2(part.scale / kRms) + kBias) / 2));
    const auto bits = static_cast<std::uint64_t>(std::clamp(exponent, 2, 28)) << 10;
    return (splitmix64(counter) & 0x87FF * kOnes) | bits * kOnes;
  }

  static void make(const Part& part, std::span<std::byte> made) {
    const auto fill = [&](const auto& word_at) {
      std::uint64_t counter = part.key;
      std::size_t at = 0;
      for (; at + 8 <= made.size(); at += 8) {
        const std::uint64_t word = word_at(counter++);
        std::memcpy(made.data() + at, &word, 8);
      }
      const std::uint64_t word = word_at(counter);
      if (at < made.size()) std::memcpy(made.data() + at, &word, made.size() - at);
    };
    const auto fill_floats = [&](float value) {
      for (std::size_t at = 0; at < made.size(); at += 4) std::memcpy(&made[at], &value, 4);
    };
    switch (part.content) {
      case Content::kBytes: return fill(splitmix64);
      case Content::kInt8:
        return fill([](std::uint64_t counter) { return without_least(splitmix64(counter)); });
      case Content::kFp16:
        return fill([&](std::uint64_t counter) { return fp16_word(part, counter); });
      case Content::kStep:
        for (std::size_t group = 0; group < made.size(); ++group) {
          made[group] = static_cast<std::byte>(step_of(group_at(part.key, group)));
        }
        return;
      case Content::kOffset:
        for (std::size_t group = 0; group < made.size(); ++group) {
          made[group] = static_cast<std::byte>(offset_of(group_at(part.key, group)));
        }
        return;
      case Content::kScale: return fill_floats(part.scale);
      case Content::kOnes: return fill_floats(1.0f);
      case Content::kZeros: return fill_floats(0.0f);
    }
  }

  std::string where_;
  std::uint64_t seed_;
  std::vector<TensorInfo> infos_;
  std::vector<Part> parts_;
  std::map<std::string, std::size_t, std::less<>> index_;
  mutable std::map<std::string, Buffer, std::less<>> made_;
  mutable std::vector<Buffer> spare_;
  mutable std::size_t spare_bytes_ = 0;
};

}  // namespace

ModelSource dummy_source(const std::string& name, ModelConfig config, int group_size,
                         std::uint64_t seed, WeightScheme head) {
  auto tensors = std::make_unique<DummyTensors>(name, seed);
  QuantizationConfig quantization{.group_size = group_size, .layers = {}};
  const auto add = [&](const std::string& module, std::int64_t n, std::int64_t k, bool liquid) {
    const LayerQuantization stored = liquid && liquid_quant_takes(n, k)
                                         ? LayerQuantization{WeightScheme::kLiquid4, group_size}
                                         : LayerQuantization{WeightScheme::kInt8, 0};
    quantization.layers[module] = stored;
    tensors->add_matrix(module, n, k, stored);
  };
  // The names of graph.cc.
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    for (const LinearName& linear : layer_linears(config, layer)) {
      add(linear.module, linear.n, linear.k, true);
      if (linear.bias) tensors->add_bias(linear.module, linear.n);
    }
    tensors->add_norm(prefix + "input_layernorm.weight", config.hidden_size);
    tensors->add_norm(prefix + "post_attention_layernorm.weight", config.hidden_size);
    if (config.qk_norm) {
      tensors->add_norm(prefix + "self_attn.q_norm.weight", config.head_dim);
      tensors->add_norm(prefix + "self_attn.k_norm.weight", config.head_dim);
    }
    tensors->add_kv_scale(prefix + "self_attn.k_scale", config.kv_heads * config.head_dim);
    tensors->add_kv_scale(prefix + "self_attn.v_scale", config.kv_heads * config.head_dim);
  }
  tensors->add_norm("model.norm.weight", config.hidden_size);
  add("model.embed_tokens", config.vocab_size, config.hidden_size, false);
  if (head == WeightScheme::kFp16) {
    config.tied_embeddings = false;
    quantization.layers["lm_head"] = {head, 0};
    tensors->add_matrix("lm_head", config.vocab_size, config.hidden_size, {head, 0});
  } else if (!config.tied_embeddings) {
    add("lm_head", config.vocab_size, config.hidden_size, false);
  }

  ModelSource source;
  source.path = name;
  source.config = std::move(config);
  source.config.quantization = std::move(quantization);
  source.stored_bytes = tensors->stored_bytes();
  source.tensors = std::move(tensors);
  return source;
}

}  // namespace liquidgemm

#include "model/checkpoint/dummy_source.h"

#include <cmath>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

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
enum class Content { kBytes, kStep, kOffset, kInt8, kScale, kOnes };

class DummyTensors final : public TensorSource {
 public:
  DummyTensors(std::string where, std::uint64_t seed) : where_(std::move(where)), seed_(seed) {}

  void add_matrix(const std::string& module, std::int64_t n, std::int64_t k,
                  const LayerQuantization& stored) {
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

  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  const TensorInfo* find(std::string_view name) const override {
    const auto found = index_.find(name);
    return found == index_.end() ? nullptr : &infos_[found->second];
  }
  const std::string& where() const override { return where_; }

  Result<std::span<const std::byte>> bytes(std::string_view name) const override {
    LIQUIDGEMM_ASSIGN_OR_RETURN(const TensorInfo* info, require(name));
    std::vector<std::byte>& made = made_[info->name];
    if (made.empty()) made = make(*info, parts_[index_.find(name)->second]);
    return std::span<const std::byte>(made);
  }
  Status read_rows(std::string_view name, std::int64_t, std::int64_t count,
                   float* out) const override {
    LIQUIDGEMM_ASSIGN_OR_RETURN(const TensorInfo* info, require(name));
    if (parts_[index_.find(name)->second].content != Content::kOnes) {
      return unsupported(where_ + ": tensor " + info->name + " is not stored as float");
    }
    std::fill_n(out, count * info->shape.back(), 1.0f);
    return ok_status();
  }
  void release(std::string_view name) const override {
    if (const auto found = made_.find(name); found != made_.end()) made_.erase(found);
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
    float scale = 0.0f;     // kScale
  };

  void add(const std::string& module, const char* suffix, DType dtype, Shape shape, Content content,
           float scale = 0.0f) {
    TensorInfo info{.name = module + suffix, .dtype = dtype, .shape = std::move(shape)};
    info.bytes = tensor_bytes(dtype, info.shape).value_or(0);
    index_.emplace(info.name, infos_.size());
    parts_.push_back({content, splitmix64_key(seed_, module), scale});
    infos_.push_back(std::move(info));
  }

  static std::uint64_t step_at(std::uint64_t key, std::uint64_t group) {
    return 1 + splitmix64(~key ^ group) % kMaxStep;
  }

  static std::vector<std::byte> make(const TensorInfo& info, const Part& part) {
    std::vector<std::byte> made(static_cast<std::size_t>(info.bytes));
    std::byte* const end = made.data() + made.size();
    std::uint64_t counter = part.key;
    switch (part.content) {
      case Content::kBytes:
      case Content::kInt8:
        for (std::byte* to = made.data(); to < end; to += 8) {
          const std::uint64_t word = splitmix64(counter++);
          std::memcpy(to, &word, static_cast<std::size_t>(std::min<std::ptrdiff_t>(8, end - to)));
        }
        if (part.content == Content::kBytes) break;
        // The checkpoint has no -128.
        for (std::byte& value : made) value = value == std::byte{0x80} ? std::byte{0x81} : value;
        break;
      case Content::kStep:
      case Content::kOffset:
        for (std::size_t group = 0; group < made.size(); ++group) {
          const std::uint64_t step = step_at(part.key, group);
          // The largest code, 15 * step + offset, may be 255 at most.
          const std::uint64_t offset = splitmix64(counter++) % (256 - kMaxCode * step);
          made[group] = static_cast<std::byte>(part.content == Content::kStep ? step : offset);
        }
        break;
      case Content::kScale:
      case Content::kOnes:
        const float value = part.content == Content::kScale ? part.scale : 1.0f;
        for (std::byte* to = made.data(); to < end; to += 4) std::memcpy(to, &value, 4);
        break;
    }
    return made;
  }

  std::string where_;
  std::uint64_t seed_;
  std::vector<TensorInfo> infos_;
  std::vector<Part> parts_;
  std::map<std::string, std::size_t, std::less<>> index_;
  mutable std::map<std::string, std::vector<std::byte>, std::less<>> made_;
};

}  // namespace

ModelSource dummy_source(const std::string& name, ModelConfig config, int group_size,
                         std::uint64_t seed) {
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
    }
    tensors->add_norm(prefix + "input_layernorm.weight", config.hidden_size);
    tensors->add_norm(prefix + "post_attention_layernorm.weight", config.hidden_size);
    if (config.qk_norm) {
      tensors->add_norm(prefix + "self_attn.q_norm.weight", config.head_dim);
      tensors->add_norm(prefix + "self_attn.k_norm.weight", config.head_dim);
    }
  }
  tensors->add_norm("model.norm.weight", config.hidden_size);
  add("model.embed_tokens", config.vocab_size, config.hidden_size, false);
  if (!config.tied_embeddings) add("lm_head", config.vocab_size, config.hidden_size, false);

  ModelSource source;
  source.path = name;
  source.config = std::move(config);
  source.config.quantization = std::move(quantization);
  source.stored_bytes = tensors->stored_bytes();
  source.tensors = std::move(tensors);
  return source;
}

}  // namespace liquidgemm

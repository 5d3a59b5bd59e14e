// A checkpoint with scales of a static INT8 cache beside its own tensors.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model/checkpoint/model_source.h"
#include "model/kv_scales.h"

namespace liquidgemm {

class ScaledTensors final : public TensorSource {
 public:
  ScaledTensors(std::unique_ptr<TensorSource> own, const std::vector<KvScales>& scales)
      : own_(std::move(own)), infos_(own_->tensors()) {
    for (std::size_t layer = 0; layer < scales.size(); ++layer) {
      add(k_scale_tensor(static_cast<std::int64_t>(layer)), scales[layer].k);
      add(v_scale_tensor(static_cast<std::int64_t>(layer)), scales[layer].v);
    }
  }

  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  Result<std::span<const std::byte>> bytes(std::string_view name) const override {
    const auto found = added_.find(name);
    if (found == added_.end()) return own_->bytes(name);
    return std::as_bytes(std::span(found->second));
  }
  Status read_rows(std::string_view name, std::int64_t first, std::int64_t count,
                   float* out) const override {
    const auto found = added_.find(name);
    if (found == added_.end()) return own_->read_rows(name, first, count, out);
    std::copy(found->second.begin(), found->second.end(), out);
    return ok_status();
  }
  void release(std::string_view name) const override {
    if (!added_.contains(name)) own_->release(name);
  }
  const std::string& where() const override { return own_->where(); }

 private:
  void add(const std::string& name, const std::vector<float>& values) {
    const auto width = static_cast<std::int64_t>(values.size());
    infos_.push_back({name, DType::kF32, {width}, 4 * width});
    added_[name] = values;
  }

  std::unique_ptr<TensorSource> own_;
  std::vector<TensorInfo> infos_;
  std::map<std::string, std::vector<float>, std::less<>> added_;
};

inline void add_kv_scales(ModelSource& source, const std::vector<KvScales>& scales) {
  source.tensors = std::make_unique<ScaledTensors>(std::move(source.tensors), scales);
}

}  // namespace liquidgemm

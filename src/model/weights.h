// Weights in the precision that a run asks for, whatever the checkpoint holds.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/thread_pool.h"
#include "gemm/gemm.h"
#include "liquidgemm/status.h"
#include "model/checkpoint/model_source.h"
#include "model/graph.h"
#include "model/kv_scales.h"
#include "quant/liquid_quant.h"

namespace liquidgemm {

// Weights and activations of the linear layers. All but W4A8 are for comparison.
enum class Precision {
  kAuto,   // W4A8 for a LiquidQuant checkpoint
  kFp32,   // float weights, float activations
  kW8A8,   // INT8 per channel, INT8 per token
  kW4A16,  // LiquidQuant weights, float activations (nothing is quantised at run time)
  kW4A8,   // LiquidQuant weights, INT8 per token
  kFp16,   // FP16 weights and activations, float sums; on a GPU alone
};
std::string_view precision_name(Precision precision);  // "fp32", "w4a8", ...
Result<Precision> parse_precision(std::string_view name);

// The bytes of a tensor where the file is mapped. Its pages are released when this goes.
class MappedTensor {
 public:
  MappedTensor() = default;
  MappedTensor(const TensorSource& source, std::string name, std::span<const std::byte> bytes)
      : source_(&source), name_(std::move(name)), bytes_(bytes) {}
  MappedTensor(MappedTensor&& other) noexcept { *this = std::move(other); }
  MappedTensor& operator=(MappedTensor&& other) noexcept;
  ~MappedTensor() {
    if (source_ != nullptr) source_->release(name_);
  }

  std::span<const std::byte> bytes() const { return bytes_; }
  template <typename T>
  const T* as() const {
    static_assert(sizeof(T) == 1, "a tensor may begin anywhere in its file");
    return reinterpret_cast<const T*>(bytes_.data());
  }

 private:
  const TensorSource* source_ = nullptr;
  std::string name_;
  std::span<const std::byte> bytes_;
};

// One matrix; view() borrows it. Codes that the checkpoint holds stay in the file until they are
// packed, codes that are made while loading and floats are in memory.
struct LoadedMatrix {
  WeightView::Kind kind = WeightView::Kind::kFloat;
  std::string name;
  std::int64_t n = 0;
  std::int64_t k = 0;
  int group_size = 64;               // kLiquid4
  MappedTensor codes, step, offset;  // in the file: packed codes, INT8, FP16; kLiquid4's groups
  LiquidRows liquid;                 // made while loading; its scales are channel_scale
  std::vector<std::int8_t> int8;     // made while loading
  std::vector<float> channel_scale;  // kLiquid4 and kInt8
  std::vector<float> f32;
  std::vector<float> bias;  // empty: none
  WeightView view() const;
};

class WeightLoader {
 public:
  // Error when the source cannot give this precision: a LiquidQuant checkpoint holds no FP32. For
  // kFp16 matrices come as floats, still to be rounded: an original's own, or what codes stand for.
  static Result<WeightLoader> create(const ModelSource& source, Precision precision, int group_size,
                                     StepRule rule, ThreadPool& pool);

  Precision precision() const { return precision_; }
  bool float_activations() const { return as_float_; }
  // Whatever the stored form, matrices come back as float: for comparing weights.
  void read_as_float() { as_float_ = true; }

  // The parts of a group, in order. Where one has a bias, all have.
  Result<std::vector<LoadedMatrix>> linear_group(const LinearGroup& group);
  // An embedding or a head: float in the float precisions, INT8 otherwise; a head may be FP16.
  Result<LoadedMatrix> table(const std::string& module, std::int64_t n, std::int64_t k);

  // What these will be, kind and shape, without reading them: the views have no data.
  Result<std::vector<WeightView>> forms_of_group(const LinearGroup& group) const;
  Result<WeightView> form_of_table(const std::string& module, std::int64_t n, std::int64_t k) const;
  // The biases alone: one a part, or all empty.
  Result<std::vector<std::vector<float>>> biases(const LinearGroup& group);

  // A 1-D tensor as float32. A value that is not finite is an error.
  Result<std::vector<float>> vector(const std::string& tensor, std::int64_t width);

  // The scales of a static INT8 cache, one entry a layer. Error where the checkpoint has none.
  Result<std::vector<KvScales>> kv_scales();

  // Called by a backend after each layer: shows progress, and ends the load when it fails.
  using Report = std::function<Status(std::int64_t done, std::int64_t total)>;
  void set_report(Report report) { report_ = std::move(report); }
  Status report(std::int64_t done, std::int64_t total) const {
    return report_ ? report_(done, total) : ok_status();
  }

  ThreadPool& pool() { return *pool_; }
  // The file or folder, for messages.
  const std::string& where() const { return source_->tensors->where(); }

 private:
  WeightLoader() = default;
  WeightScheme wanted_for_linears() const;
  WeightScheme wanted_for_tables() const;
  // How a matrix is stored, or made from floats; not yet whether it is then turned into floats.
  Result<LayerQuantization> stored_form(const std::string& module, std::int64_t n, std::int64_t k,
                                        WeightScheme wanted) const;
  Result<WeightView> form(const std::string& module, std::int64_t n, std::int64_t k,
                          WeightScheme wanted) const;
  Result<LoadedMatrix> matrix(const std::string& module, std::int64_t n, std::int64_t k,
                              WeightScheme wanted);
  Result<LoadedMatrix> map_quantized(const std::string& module, std::int64_t n, std::int64_t k,
                                     const LayerQuantization& form);
  Result<MappedTensor> map(const std::string& tensor, DType dtype, const Shape& shape);
  // The checkpoint's float weights in this scheme.
  Status read_weights(WeightScheme scheme, LoadedMatrix& matrix);
  Status check_floats(const std::string& tensor, std::int64_t n, std::int64_t k);
  // Quantised weights to floats.
  Status dequantize(LoadedMatrix& matrix);

  const ModelSource* source_ = nullptr;
  Precision precision_ = Precision::kW4A8;
  bool as_float_ = false;
  int group_size_ = 64;
  StepRule rule_ = StepRule::kSearch;
  ThreadPool* pool_ = nullptr;
  Report report_;
};

}  // namespace liquidgemm

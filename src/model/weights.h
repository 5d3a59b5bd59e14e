// Weights in the precision that a run asks for, whatever the checkpoint holds.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "gemm/gemm.h"
#include "liquidgemm/status.h"
#include "model/checkpoint/model_source.h"
#include "model/graph.h"
#include "quant/liquid_quant.h"

namespace liquidgemm {

// Weights and activations of the linear layers. W8A8 and W4A16 are for comparison.
enum class Precision {
  kAuto,   // W4A8 for a LiquidQuant checkpoint
  kFp32,   // float weights, float activations
  kW8A8,   // INT8 per channel, INT8 per token
  kW4A16,  // LiquidQuant weights, float activations (nothing is quantised at run time)
  kW4A8,   // LiquidQuant weights, INT8 per token
};
std::string_view precision_name(Precision precision);  // "fp32", "w8a8", "w4a16", "w4a8"
Result<Precision> parse_precision(std::string_view name);

// One matrix that owns its storage; view() borrows it.
struct LoadedMatrix {
  WeightView::Kind kind = WeightView::Kind::kFloat;
  std::string name;
  std::int64_t n = 0;
  std::int64_t k = 0;
  LiquidRows liquid;
  Int8Rows int8;
  std::vector<float> f32;
  std::vector<float> bias;  // empty: none
  WeightView view() const;
};

class WeightLoader {
 public:
  // Error when the source cannot give this precision: a LiquidQuant checkpoint holds no FP32.
  static Result<WeightLoader> create(const ModelSource& source, Precision precision, int group_size,
                                     StepRule rule, ThreadPool& pool);

  Precision precision() const { return precision_; }
  bool float_activations() const { return as_float_; }
  // Whatever the stored form, matrices come back as float: for comparing weights.
  void read_as_float() { as_float_ = true; }

  // The parts of a group stacked along N. All parts must come in one scheme; with quantised and
  // INT8 parts mixed, the caller gets one matrix a part (in order), otherwise exactly one.
  Result<std::vector<LoadedMatrix>> linear_group(const LinearGroup& group);
  // An embedding or a head: float in the float precisions, INT8 otherwise.
  Result<LoadedMatrix> table(const std::string& module, std::int64_t n, std::int64_t k);
  // A 1-D tensor as float32. A value that is not finite is an error.
  Result<std::vector<float>> vector(const std::string& tensor, std::int64_t width);

  // Called by a backend after each layer: shows progress, and ends the load when it fails.
  using Report = std::function<Status(std::int64_t done, std::int64_t total)>;
  void set_report(Report report) { report_ = std::move(report); }
  Status report(std::int64_t done, std::int64_t total) const {
    return report_ ? report_(done, total) : ok_status();
  }

  ThreadPool& pool() { return *pool_; }

 private:
  WeightLoader() = default;
  Result<LoadedMatrix> matrix(const std::string& module, std::int64_t n, std::int64_t k,
                              WeightScheme wanted);
  Result<LoadedMatrix> read_quantized(const std::string& module, std::int64_t n, std::int64_t k);
  Result<std::vector<float>> read_floats(const std::string& tensor, std::int64_t n, std::int64_t k);

  const ModelSource* source_ = nullptr;
  Precision precision_ = Precision::kW4A8;
  bool as_float_ = false;
  int group_size_ = 64;
  StepRule rule_ = StepRule::kSearch;
  ThreadPool* pool_ = nullptr;
  Report report_;
};

}  // namespace liquidgemm

// A published checkpoint to a LiquidQuant checkpoint (docs/format.md), as a stream.
//
// Rows are read, quantised and written a few megabytes a thread at a time, so that memory does not
// grow with the model. The work happens in "OUT.partial" beside OUT; each shard appears there whole
// or not at all, and a later run with the same source and options keeps the finished ones. Only a
// complete checkpoint is given the name OUT.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "liquidgemm/status.h"
#include "model/checkpoint/model_source.h"
#include "model/kv_scales.h"
#include "quant/liquid_quant.h"

namespace liquidgemm {

struct QuantizeOptions {
  WeightScheme scheme = WeightScheme::kLiquid4;  // or kInt8: the linear layers
  WeightScheme head = WeightScheme::kInt8;       // or kFp16: lm_head
  int group_size = 64;                           // 32, 64 or 128
  StepRule rule = StepRule::kSearch;
  std::int64_t shard_bytes = 256 << 20;  // also what an interrupted run may have to do again
  std::vector<KvScales> kv_scales;       // to be stored, one entry a layer; empty: none
  bool overwrite = false;                // replace a LiquidQuant checkpoint that is already there
};

// The group size for a model when the user names none: 64, and 32 for small models (hidden size
// below 2048), which lose far more to coarse groups than the quarter bit a weight that this costs.
// SmolLM2-135M, perplexity against FP32: 1.33x with groups of 64, 1.05x with 32 (docs/quality.md).
int default_group_size(const ModelConfig& config);

// One weight matrix.
struct QuantizedModule {
  std::string name;
  std::int64_t n = 0;
  std::int64_t k = 0;
  LayerQuantization stored;
  double squared_error = 0;  // ||W - Wq||^2
  double squared_norm = 0;   // ||W||^2
  std::int64_t bytes_before = 0;
  std::int64_t bytes_after = 0;  // with scales, without the bias
  double relative_error() const { return squared_norm > 0 ? squared_error / squared_norm : 0; }
};

struct QuantizeTotals {
  std::int64_t weights = 0;
  std::int64_t bytes_before = 0;
  std::int64_t bytes_after = 0;
  double squared_error = 0;
  double squared_norm = 0;
  double bits_per_weight() const {
    return weights > 0 ? 8.0 * static_cast<double>(bytes_after) / static_cast<double>(weights) : 0;
  }
  double relative_error() const { return squared_norm > 0 ? squared_error / squared_norm : 0; }
};

struct QuantizeReport {
  std::vector<QuantizedModule> modules;  // embedding, linear layers in the graph's order, lm_head
  QuantizeTotals linears;                // the decoder's linear layers
  QuantizeTotals model;                  // every tensor: norms and biases too
  int shards = 0;
  int shards_reused = 0;  // finished by an earlier run that was interrupted
  std::string path;       // where the checkpoint is now, without links
};

// done and total count weights. Called from the calling thread.
using QuantizeProgress =
    std::function<void(std::int64_t done, std::int64_t total, const std::string& module)>;

// kCancelled when `stop` became true: OUT is as it was, and the message says how to go on.
Result<QuantizeReport> quantize_model(const ModelSource& source, const std::string& out,
                                      const QuantizeOptions& options, ThreadPool& pool,
                                      const std::atomic<bool>& stop,
                                      const QuantizeProgress& progress = {});

}  // namespace liquidgemm

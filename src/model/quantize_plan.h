// What a LiquidQuant checkpoint of a given model holds, shard by shard, known before any weight is
// read (docs/format.md).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/tensor.h"
#include "model/checkpoint/config.h"
#include "model/checkpoint/tensor_source.h"
#include "model/quantizer.h"

namespace liquidgemm {

// A weight matrix and its bias. Numbers are places in PlannedShard::tensors.
struct PlannedModule {
  LinearName linear;
  std::string source;  // the tensor: the embedding's for the FP16 head of a tied model
  LayerQuantization stored;
  bool is_linear = true;        // a decoder layer's; false for the embedding and lm_head
  std::size_t values = 0;       // weight_packed, weight_int8 or weight
  std::size_t group_scale = 0;  // kLiquid4 only
  std::size_t group_offset = 0;
  std::size_t weight_scale = 0;  // kLiquid4 and kInt8
  std::size_t bias = 0;          // where linear.bias
};

// A norm: copied byte by byte, or as F32 where the source's type is not one of safetensors'. Or the
// scales of a KV cache, which are among the options.
struct PlannedVector {
  std::size_t tensor = 0;
  bool copy_bytes = true;
  const std::vector<float>* values = nullptr;
};

struct PlannedShard {
  std::string file;
  std::vector<TensorInfo> tensors;
  std::vector<PlannedModule> modules;
  std::vector<PlannedVector> vectors;
};

struct QuantizePlan {
  std::vector<PlannedShard> shards;
  QuantizationConfig quantization;
  bool tied_embeddings =
      false;                 // in the checkpoint; never with an FP16 head, which is stored apart
  std::int64_t weights = 0;  // of all modules
  std::uint64_t file_bytes = 0;
};

// The plan may point into the options.
Result<QuantizePlan> plan_quantization(const ModelSource& source, const QuantizeOptions& options);

}  // namespace liquidgemm

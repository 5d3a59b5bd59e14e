// Bytes and bits per weight of a checkpoint.
#pragma once

#include "model/checkpoint/model_source.h"

namespace liquidgemm::cli {

struct Sizes {
  double linear_weights = 0.0;  // weights of the decoder's linear layers
  double linear_bytes = 0.0;    // what they take, scales included, biases not
  double model_weights = 0.0;   // every parameter, a tied embedding once
  double model_bytes = 0.0;     // the weight files as they are on disk
  double linear_bits() const { return 8.0 * linear_bytes / linear_weights; }
  double model_bits() const { return 8.0 * model_bytes / model_weights; }
};

Sizes measure_sizes(const ModelSource& source);
// The same model with every parameter in BF16.
Sizes bf16_sizes(const ModelSource& source);

}  // namespace liquidgemm::cli

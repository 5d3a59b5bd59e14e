// A LiquidQuant model of any shape with random weights: for measuring speed without a checkpoint.
#pragma once

#include <cstdint>
#include <string>

#include "model/checkpoint/model_source.h"

namespace liquidgemm {

// Linear layers in 4 bits with groups of `group_size`, tables in INT8, norms of ones; a layer whose
// shape the format does not take is INT8, as the quantizer has it. An FP16 head (`head` kFp16) lies
// apart from the embedding. Codes are uniform, steps and
// offsets uniform among those that the contract allows, and scales such that every product keeps
// the size of its input, so that logits are finite; biases, where the config has them, are zeros.
// Nothing is stored: a tensor's bytes are made when they are asked for, at some GB/s, always the
// same ones for the same seed, and kept until released. There is no tokenizer. `name` is what
// messages call it.
ModelSource dummy_source(const std::string& name, ModelConfig config, int group_size,
                         std::uint64_t seed, WeightScheme head = WeightScheme::kInt8);

}  // namespace liquidgemm

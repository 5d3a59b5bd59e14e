// Tell whether what an earlier run made of a checkpoint, the finished shards of an interrupted
// quantization or a file of packed weights, belongs to the work at hand.
#pragma once

#include <cstdint>
#include <string>

#include "model/checkpoint/model_source.h"
#include "model/quantizer.h"
#include "model/weights.h"

namespace liquidgemm {

// 16 hex digits over the options, the config, every tensor's name, type, shape and first row, and
// name, size and time of every weight file. A folder that was moved or renamed keeps its
// fingerprint.
Result<std::string> quantize_fingerprint(const ModelSource& source, const QuantizeOptions& options);

// The same over what decides on a model's weights when it is loaded; of a matrix that is stored
// quantised, the first codes and scales stand for the first row. Group size and rule count where
// codes are made while loading.
Result<std::uint64_t> packed_weights_fingerprint(const ModelSource& source, Precision precision,
                                                 int group_size, StepRule rule);

}  // namespace liquidgemm

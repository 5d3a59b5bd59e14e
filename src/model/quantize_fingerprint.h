// Tells whether finished shards of an interrupted run belong to the work at hand.
#pragma once

#include <string>

#include "model/checkpoint/model_source.h"
#include "model/quantizer.h"

namespace liquidgemm {

// 16 hex digits over the options, the config, every tensor's name, type, shape and first row, and
// name, size and time of every weight file. A folder that was moved or renamed keeps its
// fingerprint.
Result<std::string> quantize_fingerprint(const ModelSource& source, const QuantizeOptions& options);

}  // namespace liquidgemm
